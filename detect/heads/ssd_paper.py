"""SSD as published (arXiv 1512.02325), and SSDlite (arXiv 1801.04381, 6.2): extras, default boxes.

Numbers and layers are torchvision's `ssd300_vgg16` and `ssdlite320_mobilenet_v3_large`, which the
tests hold equal. The extra layers of SSD512 are the paper's: padded, so that the grids halve.
"""

from collections.abc import Sequence
from functools import partial
from math import log
from typing import Any

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from detect.anchors import default_boxes, default_shapes
from detect.heads.anchored import Anchored, best, columns, maps_from
from detect.postprocess import Postprocess
from engine.errors import UserError
from engine.structures import Output

_light = partial(
    Conv2dNormActivation,
    norm_layer=partial(nn.BatchNorm2d, eps=0.001, momentum=0.03),
    activation_layer=nn.ReLU6,
)


def _extra(channels: int, width: int, kernel: int, stride: int, padding: int) -> nn.Sequential:
    """A 1x1 convolution of half the width, and one that shrinks the map."""
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
    """Separate convolutions a level say class and box of every default box.

    Args:
        first_stride: of the backbone's finest map that is read.
        extras: [width, kernel, stride, padding] of each layer on top of the backbone's maps.
        scales: of each level, the side of its square default box as a share of the image, and
            one more: each level also has a square between its own and the next.
        ratios: of each level; each stands for itself and its inverse.
        steps: of each level, pixels from one box to the next; None divides the image evenly.
        light: SSDlite's depthwise layers, normalised.
        prior: the score every slot starts with, under a sigmoid.
        coder, positive, negative: see `detect.heads.anchored.Anchored`; equal overlaps leave no
            slot out, as published.
        per_class: slots of a class that enter suppression, at most.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        activation: str,
        extras: Sequence[Sequence[int]],
        scales: Sequence[float],
        ratios: Sequence[Sequence[float]],
        steps: Sequence[float] | None = None,
        first_stride: int = 8,
        light: bool = False,
        coder: Any = None,
        positive: float = 0.5,
        negative: float = 0.5,
        prior: float = 0.01,
        per_class: int = 400,
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
        self.maps = maps_from(strides, first_stride, len(ratios) - len(extras))
        self._check(len(self.maps) + len(extras), scales, ratios, steps)
        self.shapes = default_shapes(scales, ratios)
        self.steps = steps or [None] * len(ratios)
        self.per_class = per_class
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
                f"{len(scales)} scales, {counts[2]} steps; expected one of each a map, and one "
                "scale more: say other lists, or a backbone= with more maps"
            )

    def _start(self, light: bool, prior: float) -> None:
        """Xavier's weights, or normal ones for SSDlite; no bias but the prior's."""
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
            except RuntimeError as error:  # torch has no other word for a map that is too small
                raise UserError(
                    f"image_size={list(image_size)} leaves no map for level {len(maps) + 1} of "
                    f"{len(self.classes)} ({error}): say a larger size"
                ) from error
        said, anchors = [], []
        for i, x in enumerate(maps):
            code = columns(self.boxes[i](x), 4)
            said.append((code, columns(self.classes[i](x), self.num_logits)))
            grid = (x.shape[2], x.shape[3])
            anchors.append(default_boxes(grid, self.shapes[i], image_size, self.steps[i]))
        return self.to_output(said, anchors, image_size)

    def keep_best(self, scores: Tensor, output: Output) -> Tensor:
        """The best few of each class."""
        return best(scores, self.per_class, 1)
