"""Darknet's .weights files: a header, then the float32 weights of every layer in forward order.

A convolution with batch normalisation holds shift, scale, mean, variance, weights; one without
holds bias, weights (https://pjreddie.com/darknet, parser.c). The file has no names, so only the
same network reads it right.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engine.console import info
from engine.errors import UserError
from engine.structures import Preprocessing

PREPROCESSING = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # RGB in 0..1
NORM = ("bias", "weight", "running_mean", "running_var")


def parse(data: bytes, path: Path, backbone: nn.Module) -> dict[str, Tensor]:
    """The tensors of a backbone by name, and of a classifier if the rest of the file has its size.

    Args:
        data: the bytes of the file.
        path: its name, for messages.
        backbone: gives the names, shapes and order of the tensors.

    Raises:
        UserError: the file is shorter than the backbone, cut short, or its header not Darknet's.
    """
    numbers = _numbers(data, path)
    state, used = {}, 0
    for key, tensor in _order(backbone):
        piece = numbers[used : used + tensor.numel()]
        if len(piece) < tensor.numel():
            raise UserError(
                f"{path}: ends in {key}: {len(numbers)} numbers, this backbone needs more; it is "
                "cut short, or of another network"
            )
        state[key] = torch.from_numpy(piece.copy()).view(tensor.shape)
        used += tensor.numel()
    rest = numbers[used:]
    classifier = _classifier(rest, list(backbone.channels)[-1])  # type: ignore[arg-type]
    if len(rest) and not classifier:
        info(f"weights: {path}: {len(rest)} numbers behind the backbone's layers left over")
    return state | classifier


def _numbers(data: bytes, path: Path) -> np.ndarray:
    """All weights of the file; the header is three int32 and the images seen, 4 or 8 bytes."""
    if len(data) < 20:
        raise UserError(f"{path}: {len(data)} bytes, too short for a Darknet file")
    major, minor = np.frombuffer(data, np.int32, 2)
    if not (0 <= major < 10 and 0 <= minor < 100):
        raise UserError(f"{path}: no Darknet file: its version is {major}.{minor}")
    header = 20 if major * 10 + minor >= 2 else 16
    if (len(data) - header) % 4:
        raise UserError(f"{path}: {len(data)} bytes, no whole number of weights: it is cut short")
    return np.frombuffer(data, np.float32, (len(data) - header) // 4, header)


def _order(backbone: nn.Module) -> list[tuple[str, Tensor]]:
    """The backbone's tensors in the file's order: a layer's normalisation before its weights."""
    layers = [(n, m) for n, m in backbone.named_modules() if hasattr(m, "weight")]
    order = []
    for (name, layer), (after, norm) in zip(
        layers, [*layers[1:], ("", nn.Identity())], strict=True
    ):
        if not isinstance(layer, nn.Conv2d):
            continue
        if isinstance(norm, nn.BatchNorm2d):
            order += [(f"{after}.{key}", getattr(norm, key)) for key in NORM]
        if layer.bias is not None:
            order.append((f"{name}.bias", layer.bias))
        order.append((f"{name}.weight", layer.weight))
    return order


def _classifier(numbers: np.ndarray, width: int) -> dict[str, Tensor]:
    """The last 1x1 convolution as a linear layer; the file has its biases before its weights."""
    classes, odd = divmod(len(numbers), width + 1)
    if odd or not classes:
        return {}
    values = torch.from_numpy(numbers.copy())
    weight = values[classes:].view(classes, width)
    return {"classifier.weight": weight, "classifier.bias": values[:classes]}
