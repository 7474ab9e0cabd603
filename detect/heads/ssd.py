"""The single-shot multibox head (arXiv 1512.02325): anchors on the maps of several strides.

Deviations: any backbone, batch normalisation in the extra layers, anchor sizes in cells of their
grid, and anchors with an IoU between `negative` and `positive` are left out of the loss as in
RetinaNet (arXiv 1708.02002, 4.1); if the two are equal, matching is SSD's.
"""

from collections.abc import Sequence
from math import ceil, log, log2
from typing import Any

import torch
from torch import Tensor, nn

from detect.anchors import anchor_shapes, check_anchors, grid_anchors
from detect.fit import PYRAMID, pyramid
from detect.heads.anchored import Anchored, permute_and_flatten, select_maps
from detect.postprocess import Postprocess
from detect.slot_cache import Slots
from engine.config.ranges import BoxClasses, Channels, InnerShare, Levels, Scales, Share, Stride
from engine.errors import UserError
from engine.structures import Output


def _extra(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width // 2, 1, bias=False),
        nn.BatchNorm2d(width // 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def _predictor(width: int, anchors: int, logits: int, prior: float | None) -> nn.Conv2d:
    """3x3 convolution to box code and logits of every anchor; logits start at the prior's."""
    layer = nn.Conv2d(width, anchors * (4 + logits), 3, padding=1)
    nn.init.normal_(layer.weight, std=0.01)
    bias = torch.zeros(anchors, 4 + logits)
    if prior is not None:
        bias[:, 4:] = -log((1 - prior) / prior)
    layer.bias = nn.Parameter(bias.flatten())
    return layer


class SSD(Anchored):
    """One 3x3 convolution per level predicts class and box of every anchor.

    Args:
        levels: number of maps from stride `first_stride` on: the backbone's, then those of stride-2
            convolutions of `extra_channels`; only the latter if the backbone has none so coarse.
        scales: anchor sides in cells; ratios: height / width.
        prior: initial score of every slot, with a sigmoid (arXiv 1708.02002, 4.1).
        coder, positive, negative: see `detect.heads.anchored.Anchored`.
    """

    fits = dict.fromkeys(PYRAMID, pyramid)
    shapes: Tensor

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: BoxClasses,
        activation: str,
        levels: Levels = 5,
        first_stride: Stride = 8,
        extra_channels: Channels = 256,
        scales: Scales = (2.0, 2.52, 3.17),
        ratios: Scales = (0.5, 1.0, 2.0),
        coder: Any = None,
        positive: Share = 0.5,
        negative: Share = 0.4,
        prior: InnerShare = 0.01,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            activation=activation,
            coder=coder,
            positive=positive,
            negative=negative,
            postprocess=postprocess,
        )
        check_anchors(scales, ratios, levels)
        coarsest = max(strides)
        self.finer = ceil(log2(first_stride / coarsest)) if 0 < coarsest < first_stride else 0
        self.maps = select_maps(strides, coarsest if self.finer else first_stride, levels)
        widths = [channels[i] for i in self.maps]
        self.extras = nn.ModuleList()
        while len(widths) < self.finer + levels:
            self.extras.append(_extra(widths[-1], extra_channels))
            widths.append(extra_channels)
        self.register_buffer("shapes", anchor_shapes(scales, ratios), persistent=False)
        anchors = len(scales) * len(ratios)
        start = prior if activation == "sigmoid" else None
        self.predictors = nn.ModuleList(
            _predictor(w, anchors, self.num_logits, start) for w in widths[self.finer :]
        )

    def forward(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """Anchors of the finest map first."""
        features = [features[i] for i in self.maps]
        for extra in self.extras:
            if features[-1].shape[2:].numel() == 1:
                left = max(len(features) - self.finer, 1)
                raise UserError(
                    f"image_size={list(image_size)} leaves a single cell before level {left} "
                    f"of {len(self.predictors)}: set head.levels={left} or a larger size"
                )
            features = [*features, extra(features[-1])]
        outputs, grids = [], []
        for feature, predictor in zip(features[self.finer :], self.predictors, strict=True):
            x = permute_and_flatten(predictor(feature), 4 + self.num_logits)
            outputs.append((x[..., :4], x[..., 4:]))
            grids.append((feature.shape[2], feature.shape[3]))
        return self.to_output(outputs, grids, image_size)

    def level_anchors(
        self, level: int, grid: tuple[int, int], image_size: tuple[int, int]
    ) -> Slots:
        """Anchors in cells of the grid, the same for every level."""
        cell = torch.tensor([image_size[1] / grid[1], image_size[0] / grid[0]])
        return grid_anchors(grid, self.shapes.cpu() * cell, image_size)
