"""Feature pyramid network (arXiv 1612.03144, 3) with RetinaNet's extra levels (1708.02002, 4)."""

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from engine.errors import UserError


class Pyramid(FeaturePyramidNetwork):
    """Maps of equal numbers of channels; each has the coarser ones, upsampled, added to it.

    Args:
        channels: of the backbone's maps, fine to coarse.
        out_channels: channels of the pyramid's maps.
        levels: number of maps; those beyond the backbone's are made by stride-2 convolutions.
        extra_from: input of the first of these: "p", the pyramid's coarsest map (as torchvision's
            RetinaNet), or "c", the backbone's coarsest map (as the paper).
    """

    def __init__(
        self, *, channels: Sequence[int], out_channels: int, levels: int, extra_from: str = "p"
    ) -> None:
        if extra_from not in ("p", "c"):
            raise UserError(f"head.extra_from={extra_from}: expected p or c")
        super().__init__(list(channels), out_channels)
        self.extra_from = extra_from
        self.extras = nn.ModuleList()
        in_channels = out_channels if extra_from == "p" else channels[-1]
        for _ in range(levels - len(channels)):
            layer = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
            nn.init.kaiming_uniform_(layer.weight, a=1)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            self.extras.append(layer)
            in_channels = out_channels

    def forward(self, features: list[Tensor]) -> list[Tensor]:  # type: ignore[override]
        """The backbone's maps -> `levels` maps [B, out_channels, h, w], fine to coarse."""
        named = OrderedDict((str(i), feature) for i, feature in enumerate(features))
        maps = list(super().forward(named).values())
        x = maps[-1] if self.extra_from == "p" else features[-1]
        for i, extra in enumerate(self.extras):
            x = extra(F.relu(x) if i else x)
            maps.append(x)
        return maps
