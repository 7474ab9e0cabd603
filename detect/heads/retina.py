"""The RetinaNet head (arXiv 1708.02002, 4): a feature pyramid under two towers of convolutions.

Anchors, layers and numbers equal torchvision's `retinanet_resnet50_fpn`, as the tests check; with
`group_norm` and `extra_from: c` those of its version 2. It deviates from the paper: anchors are
centred on the corners of cells, in whole pixels; the map after the coarsest is made from the
pyramid (in the paper from the backbone, which is `extra_from: c`).
"""

from collections.abc import Sequence
from functools import partial
from math import gcd, log
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from detect.anchors import anchor_sizes, check_anchors, corner_anchors
from detect.coder import CentreSize
from detect.fit import PYRAMID, pyramid
from detect.fpn import Pyramid
from detect.heads.anchored import Anchored, keep_top, permute_and_flatten, select_maps
from detect.matching import assign_labels, best_matches
from detect.postprocess import Postprocess
from detect.slot_cache import Slots
from engine.config.ranges import (
    BoxClasses,
    Channels,
    InnerShare,
    Kept,
    Layers,
    Levels,
    Scales,
    Share,
    Stride,
)
from engine.errors import UserError
from engine.structures import Assigned, Objects, Output


def _branch(width: int, towers: int, group_norm: bool, outputs: int, bias: float) -> nn.Sequential:
    """`towers` convolutions and a last one, shared by all levels; small initial weights."""
    norm = partial(nn.GroupNorm, gcd(32, width)) if group_norm else None
    tower = [Conv2dNormActivation(width, width, norm_layer=norm) for _ in range(towers)]
    last = nn.Conv2d(width, outputs, 3, padding=1)
    branch = nn.Sequential(nn.Sequential(*tower), last)
    for layer in branch.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    assert last.bias is not None
    nn.init.constant_(last.bias, bias)
    return branch


def _sides(
    strides: list[int], levels: int, scales: Sequence[float], ratios: Sequence[float]
) -> list[Tensor]:
    """(width, height) [n, 2] in pixels of a cell's anchors, by level; extra strides double."""
    strides = strides + [strides[-1] * 2**i for i in range(1, levels - len(strides) + 1)]
    return [anchor_sizes([int(stride * scale) for scale in scales], ratios) for stride in strides]


class Retina(Anchored):
    """Class and box of every anchor of a pyramid's levels.

    Args:
        levels: number of maps; the backbone's from `first_stride` on, then stride-2 convolutions.
        pyramid_channels: channels of the pyramid and the towers.
        towers: convolutions before the last one; 1, with 64 channels and 3 levels, is fast.
        group_norm: whether the towers have group normalisation (arXiv 1803.08494).
        extra_from: see `detect.fpn.Pyramid`.
        scales: anchor sides in cells of their level; in pixels they are rounded down.
        ratios: height / width of anchors.
        prior: initial score of every slot, with a sigmoid (section 4.1).
        positive, negative: IoU from which a slot is assigned to an object, and below which it is
            background.
        pre_nms_per_level: (anchor, class) pairs of a level that enter NMS, at most.
    """

    fits = dict.fromkeys(PYRAMID, pyramid)

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: BoxClasses,
        activation: str,
        levels: Levels = 5,
        first_stride: Stride = 8,
        pyramid_channels: Channels = 256,
        towers: Layers = 4,
        group_norm: bool = False,
        extra_from: str = "p",
        scales: Scales = (4.0, 5.04, 6.35),
        ratios: Scales = (0.5, 1.0, 2.0),
        coder: Any = None,
        positive: Share = 0.5,
        negative: Share = 0.4,
        prior: InnerShare = 0.01,
        pre_nms_per_level: Kept = 1000,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            activation=activation,
            coder=coder or CentreSize(variances=(1.0, 1.0)),
            positive=positive,
            negative=negative,
            clip=True,
            postprocess=postprocess,
        )
        check_anchors(scales, ratios, levels)
        if towers < 0:
            raise UserError(f"head.towers={towers}: expected 0 or more")
        self.maps = select_maps(strides, first_stride, levels)
        self.sides = _sides([strides[i] for i in self.maps], levels, scales, ratios)
        self.pre_nms_per_level = pre_nms_per_level
        self.protocol += f", {pre_nms_per_level} boxes of a level before NMS"
        anchors = len(scales) * len(ratios)
        start = -log((1 - prior) / prior) if activation == "sigmoid" else 0.0
        self.pyramid = Pyramid(
            channels=[channels[i] for i in self.maps],
            out_channels=pyramid_channels,
            levels=levels,
            extra_from=extra_from,
        )
        self.classes = _branch(
            pyramid_channels, towers, group_norm, anchors * self.num_logits, start
        )
        self.boxes = _branch(pyramid_channels, towers, group_norm, anchors * 4, 0.0)

    def forward(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """Anchors of the finest map first."""
        outputs, grids = [], []
        maps = self.pyramid([features[i] for i in self.maps])
        for x in maps:
            logits = permute_and_flatten(self.classes(x), self.num_logits)
            outputs.append((permute_and_flatten(self.boxes(x), 4), logits))
            grids.append((x.shape[2], x.shape[3]))
        return self.to_output(outputs, grids, image_size)

    def level_anchors(
        self, level: int, grid: tuple[int, int], image_size: tuple[int, int]
    ) -> Slots:
        """Anchors in whole pixels on the corners of the level's cells."""
        return corner_anchors(grid, self.sides[level], image_size)

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """Assign objects to anchors by IoU; an object's best anchors, ties too, are positive.

        Each anchor is assigned to the object it overlaps most. So an object is left without one
        if another overlaps its best anchors more, as in torchvision.
        """
        batch = len(output.logits)
        iou, matched_gt, forced_gt = best_matches(output.slots, objects, batch, ties=True)
        labels = assign_labels(
            torch.where(forced_gt >= 0, 1.0, iou),
            matched_gt,
            objects,
            positive=self.positive,
            negative=self.negative,
        )
        return Assigned(labels, self._encode(output, objects, matched_gt, labels))

    def keep_best(self, scores: Tensor, output: Output) -> Tensor:
        """Scores, with 0 for all but the `pre_nms_per_level` highest of each level."""
        assert output.levels is not None
        levels = scores.split(output.levels, 1)
        kept = [keep_top(x.flatten(1), self.pre_nms_per_level, 1) for x in levels]
        return torch.cat(kept, 1).view_as(scores)
