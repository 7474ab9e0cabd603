"""SSD as published (arXiv 1512.02325), and SSDlite (arXiv 1801.04381, 6.2): extras, default boxes.

Numbers and layers equal torchvision's `ssd300_vgg16` and `ssdlite320_mobilenet_v3_large`, as the
tests check. The extra layers of SSD512 are the paper's: padded, so that the grids halve.
"""

from collections.abc import Sequence
from functools import partial
from math import log
from typing import Annotated, Any

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from detect.anchors import default_boxes, default_shapes
from detect.heads.anchored import Anchored, keep_top, permute_and_flatten, select_maps
from detect.postprocess import Postprocess
from detect.slot_cache import Slots
from engine.config.ranges import (
    BoxClasses,
    Channels,
    InnerShare,
    Kept,
    Positive,
    Range,
    Scale,
    Scales,
    Share,
    Stride,
)
from engine.errors import UserError
from engine.structures import Output

Pixels = Annotated[int, Range(1, 64)]
Extra = tuple[Channels, Pixels, Pixels, Annotated[int, Range(0, 64)]]  # see `extras`

_light = partial(
    Conv2dNormActivation,
    norm_layer=partial(nn.BatchNorm2d, eps=0.001, momentum=0.03),
    activation_layer=nn.ReLU6,
)


def _extra(channels: int, width: int, kernel: int, stride: int, padding: int) -> nn.Sequential:
    """A 1x1 convolution to half the width, and one that reduces the map."""
    inner = width // 2
    return nn.Sequential(
        nn.Conv2d(channels, inner, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(inner, width, kernel, stride, padding),
        nn.ReLU(inplace=True),
    )


def _light_extra(channels: int, width: int, kernel: int, stride: int, padding: int) -> nn.Module:
    inner = width // 2
    return nn.Sequential(
        _light(channels, inner, 1),
        _light(inner, inner, kernel, stride, padding, groups=inner),
        _light(inner, width, 1),
    )


def _predictor(width: int, outputs: int) -> nn.Module:
    return nn.Conv2d(width, outputs, 3, padding=1)


def _light_predictor(width: int, outputs: int) -> nn.Module:
    return nn.Sequential(_light(width, width, 3, groups=width), nn.Conv2d(width, outputs, 1))


class SSDPaper(Anchored):
    """Two convolutions per level predict class and box of every default box.

    Args:
        first_stride: stride of the finest of the backbone's maps that is read.
        extras: [width, kernel, stride, padding] of each layer on top of the backbone's maps.
        scales: side of each level's square default box as a fraction of the image, and one more:
            each level also has a square between its scale and the next.
        ratios: of each level; each gives two boxes, the ratio and its inverse.
        steps: pixels from box to box, of each level; None divides the image evenly.
        light: whether layers are SSDlite's, depthwise with batch normalisation.
        prior: initial score of every slot, with a sigmoid.
        coder, positive, negative: see `detect.heads.anchored.Anchored`; with equal thresholds no
            slot is left out of the loss, as published.
        per_class: boxes of a class that enter NMS, at most.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: BoxClasses,
        activation: str,
        extras: Sequence[Extra],
        scales: Scales,
        ratios: Sequence[Sequence[Scale]],
        steps: Sequence[Positive] | None = None,
        first_stride: Stride = 8,
        light: bool = False,
        coder: Any = None,
        positive: Share = 0.5,
        negative: Share = 0.5,
        prior: InnerShare = 0.01,
        per_class: Kept = 400,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            activation=activation,
            coder=coder,
            positive=positive,
            negative=negative,
            clip=True,
            postprocess=postprocess,
        )
        self.maps = select_maps(strides, first_stride, len(ratios) - len(extras))
        self._check(len(self.maps) + len(extras), scales, ratios, steps)
        self.shapes = default_shapes(scales, ratios)
        self.steps = steps or [None] * len(ratios)
        self.per_class = per_class
        self.protocol += f", {per_class} boxes of a class before NMS"
        widths = [*(channels[i] for i in self.maps), *(extra[0] for extra in extras)]
        below, make = widths[len(self.maps) - 1 :], _light_extra if light else _extra
        self.extras = nn.ModuleList(make(w, *e) for w, e in zip(below, extras, strict=False))
        levels = [(w, len(sides)) for w, sides in zip(widths, self.shapes, strict=True)]
        predict = _light_predictor if light else _predictor
        self.boxes = nn.ModuleList(predict(w, n * 4) for w, n in levels)
        self.classes = nn.ModuleList(predict(w, n * self.num_logits) for w, n in levels)
        self._start(light, prior if activation == "sigmoid" else 0.5)

    def _check(
        self, levels: int, scales: Sequence[Any], ratios: Sequence[Any], steps: Sequence[Any] | None
    ) -> None:
        counts = (len(ratios), len(scales) - 1, levels if steps is None else len(steps))
        if counts != (levels,) * 3:
            raise UserError(
                f"head: {levels} maps of the backbone and extras, {len(ratios)} ratios, "
                f"{len(scales)} scales, {counts[2]} steps; expected one of each per map, and one "
                "more scale: set other lists, or a backbone= with more maps"
            )

    def _start(self, light: bool, prior: float) -> None:
        """Initialise: Xavier, or normal for SSDlite; biases 0, of class logits by the prior."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                weight = layer.weight
                nn.init.normal_(weight, std=0.03) if light else nn.init.xavier_uniform_(weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for predictor in self.classes:
            last = predictor[-1] if isinstance(predictor, nn.Sequential) else predictor
            nn.init.constant_(last.bias, -log((1 - prior) / prior))  # type: ignore[arg-type]

    def forward(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """Default boxes of the finest map first."""
        maps = [features[i] for i in self.maps]
        for extra in self.extras:
            try:
                maps.append(extra(maps[-1]))
            except RuntimeError as error:  # what torch raises if a map is too small
                raise UserError(
                    f"image_size={list(image_size)} leaves no map for level {len(maps) + 1} of "
                    f"{len(self.classes)} ({error}): set a larger size"
                ) from error
        outputs, grids = [], []
        for i, x in enumerate(maps):
            code = permute_and_flatten(self.boxes[i](x), 4)
            outputs.append((code, permute_and_flatten(self.classes[i](x), self.num_logits)))
            grids.append((x.shape[2], x.shape[3]))
        return self.to_output(outputs, grids, image_size)

    def level_anchors(
        self, level: int, grid: tuple[int, int], image_size: tuple[int, int]
    ) -> Slots:
        """Default boxes of the level."""
        return default_boxes(grid, self.shapes[level], image_size, self.steps[level])

    def keep_best(self, scores: Tensor, output: Output) -> Tensor:
        """Scores, with 0 for all but the `per_class` highest of each class."""
        return keep_top(scores, self.per_class, 1)
