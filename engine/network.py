"""A backbone, a head and a loss as one module: from uint8 images to losses or to objects."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.network_protocols import Group, Layered
from engine.record import Meta
from engine.structures import Fixed, Objects, Output, Preprocessing

IMAGENET = Preprocessing()


class Predictor(Protocol):
    """What predicts in batches: a `Network`, or an exported file in its place."""

    head: Any

    def eval(self) -> Any:
        """Predict from now on, instead of training."""

    def __call__(self, images: Tensor) -> Any:
        """[B, 3, H, W] uint8 RGB -> an `Output`, or a `Fixed`."""

    def decode(self, output: Any) -> Objects:
        """The predicted objects in pixels of the network's input."""
        ...

    def losses(self, output: Any, objects: Objects) -> dict[str, Tensor]:
        """The loss terms by name, if it has some."""
        ...


class Network(nn.Module):
    """The module that the loop trains. `mean` and `std` are in its state dict.

    Args:
        mean, std: of each channel in 0..1.
        colour: the order of the channels, RGB or BGR.
        l1, l2: penalties on the weights that train, in training mode; not on biases and scales of
            normalisation. With plain SGD, `l2` equals weight decay.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        backbone: Any,
        head: Any,
        criterion: Any,
        mean: Sequence[float] = IMAGENET.mean,
        std: Sequence[float] = IMAGENET.std,
        colour: str = IMAGENET.colour,
        l1: float = 0.0,
        l2: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.criterion = backbone, head, criterion
        self.colour, self.l1, self.l2 = colour, l1, l2
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255)

    def forward(self, images: Tensor) -> Output:
        """Compute the raw output for images [B, 3, H, W] uint8 RGB."""
        images = images if self.colour == "RGB" else images.flip(1)
        x = (images.float() - self.mean) / self.std
        return self.head(self.backbone(x), (images.shape[2], images.shape[3]))

    def losses(self, output: Output, objects: Objects) -> dict[str, Tensor]:
        """Return the named, weighted loss terms, in float32."""
        output = output.float()
        with torch.no_grad():
            assigned = self.head.assign(output, objects)
        return self.criterion(output, assigned) | (self.penalties() if self.training else {})

    def penalties(self) -> dict[str, Tensor]:
        """Return the terms `l1` and `l2`, those that are not 0."""
        weights = [p for p in self.parameters() if p.requires_grad and p.ndim > 1]
        terms = {}
        if self.l1:
            terms["l1"] = self.l1 * torch.stack([w.abs().sum() for w in weights]).sum()
        if self.l2:
            terms["l2"] = self.l2 / 2 * torch.stack([w.square().sum() for w in weights]).sum()
        return terms

    def decode(self, output: Output) -> Objects:
        """Return the predicted objects in pixels of the network's input."""
        return self.head.decode(output.float())


def groups(network: Any) -> list[Group]:
    """Return groups of parameters by depth; a backbone or head without `groups` is one."""
    found: list[Group] = []
    for part in (network.backbone, network.head):
        layers = Layered.groups.of(part)
        found += layers() if layers else [[part]]
    return found


def parameters(group: Group) -> Iterator[nn.Parameter]:
    """Yield all parameters of a group."""
    for member in group:
        yield from [member] if isinstance(member, nn.Parameter) else member.parameters()


def refuse_nan_output(output: Output | Fixed, meta: Sequence[Meta]) -> None:
    """Raise UserError naming the first image for which a network gives NaN or infinite numbers."""
    for name, values in output.numbers.items():
        if values.isfinite().all():
            continue
        wrong = ~values.isfinite().flatten(1)  # [B, numbers of an image]
        bad = int(wrong.any(1).nonzero()[0])
        raise UserError(
            f"{meta[bad].path or meta[bad].id}: the network gives {int(wrong[bad].sum())} of "
            f"{wrong.shape[1]} {name} that are NaN or infinite, expected finite numbers: training "
            "has diverged (lower optimizer.lr), or the weights are broken"
        )
