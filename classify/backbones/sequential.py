"""What the backbones share: layers one after another, and maps taken behind some of them."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from torch import Tensor, nn

from engine.weights.darknet_detector import Detector
from engine.weights.pretrained import Pretrained, load
from engine.weights.translate import Family


class SequentialBackbone(nn.Module):
    """A backbone whose layers run in order.

    A subclass sets `channels` and `strides` of its maps, and `taps`, the index of the layer behind
    which each is taken; the last tap is the last layer. Modules keep the names of the published
    weights, so that these load by name.
    """

    channels: Sequence[int]
    strides: Sequence[int]
    taps: Sequence[int]
    detectors: ClassVar[tuple[Family, ...]] = ()  # on this backbone, whose weights load too
    darknets: ClassVar[Detector | None] = None  # Darknet's on this backbone, alike
    pretrained: Pretrained | None = None  # what `weights` held, until the network is built

    def layers(self) -> Iterable[nn.Module]:
        """The layers in the order they run: all children, unless overridden."""
        return self.children()

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> a map behind each tap, fine to coarse."""
        x, maps = images, []
        for i, layer in enumerate(self.layers()):
            x = layer(x)
            if i in self.taps:
                maps.append(x)
        return maps

    def groups(self) -> list[list[nn.Module]]:
        """The layers by depth, shallow first: those that lead to the first map, to the next, ..."""
        layers, starts = list(self.layers()), [0, *(tap + 1 for tap in self.taps)]
        return [layers[a : tap + 1] for a, tap in zip(starts, self.taps, strict=False)]

    def pretrain(self, weights: str | None, published: str | None = None) -> None:
        """Start from `weights`, see `engine.weights.pretrained`; `published`: its name there."""
        self.pretrained = load(self, weights, published, self.detectors, darknets=self.darknets)
