"""Darknet's .weights files: a header, then the float32 weights of every layer in forward order.

A convolution with batch normalisation holds shift, scale, mean, variance, weights; one without
holds bias, weights (https://pjreddie.com/darknet, parser.c). The file has no names, so only the
same network reads it right: a backbone, which may be followed by its classifier, or by the detector
that Darknet has on it. A backbone lists that detector as data, a `Detector`.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from engine.console import info
from engine.errors import UserError
from engine.structures import Preprocessing
from engine.weights.darknet_detector import NORM, Behind, Detector, Order

PREPROCESSING = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # RGB in 0..1


class Parsed(NamedTuple):
    """The tensors of a file by name, and what they say of a detector."""

    state: dict[str, Tensor]
    preprocessing: Preprocessing | None = None  # that of a detector
    classes: list[str] | None = None
    head: Mapping[str, Any] = {}  # arguments of our head, and those that its outputs need
    boxes: Mapping[str, Any] = {}


def parse(data: bytes, path: Path, backbone: nn.Module, detector: Detector | None = None) -> Parsed:
    """The tensors of a backbone by name, and of a detector or a classifier if they follow.

    Args:
        data: the bytes of the file.
        path: its name, for messages.
        backbone: gives the names, shapes and order of the tensors.
        detector: what may follow.

    Raises:
        UserError: the file is shorter than the backbone, cut short, of another network, or its
            header not Darknet's.
    """
    numbers = _numbers(data, path)
    order = [(key, tuple(tensor.shape)) for key, tensor in _order(backbone)]
    channels: Sequence[int] = list(backbone.channels)  # type: ignore[arg-type]
    behind = Behind(path, len(numbers), _count(order), channels, detector)
    behind.check_known()
    if len(numbers) < behind.backbone:
        raise UserError(f"{path}: ends in {_end(order, len(numbers))}: {behind.problem()}")
    state = _read(numbers, order, path)
    rest = numbers[behind.backbone :]
    if detector and (outputs := behind.outputs(len(rest))):
        state |= _read(rest, behind.order(outputs), path)
        known = behind.classes(outputs)
        return Parsed(
            state,
            detector.preprocessing,
            list(known.classes) or None,
            detector.head,
            {**detector.boxes, **known.boxes},
        )
    classifier = _classifier(rest, channels[-1])
    if len(rest) and not classifier:
        behind.check_left_over(len(rest))
        info(f"weights: {path}: {len(rest)} numbers behind the backbone's layers left over")
    return Parsed(state | classifier)


def _count(order: Order) -> int:
    return sum(prod(shape) for _, shape in order)


def _end(order: Order, numbers: int) -> str:
    """The tensor in which a file of so many numbers ends."""
    ends = accumulate(prod(shape) for _, shape in order)
    return next(key for (key, _), end in zip(order, ends, strict=True) if end > numbers)


def _read(numbers: np.ndarray, order: Order, path: Path) -> dict[str, Tensor]:
    """The tensors at the start of the numbers."""
    state, used = {}, 0
    for key, shape in order:
        piece = numbers[used : used + prod(shape)]
        if key.endswith("running_var") and (piece < 0).any():
            raise UserError(
                f"{path}: {key}: {int((piece < 0).sum())} of {len(piece)} variances are below 0, "
                "expected none: the file is of another network, or damaged"
            )
        state[key] = torch.from_numpy(piece.copy()).view(shape)
        used += len(piece)
    return state


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
