"""The YOLOv3 head (arXiv 1804.02767, 2.1 to 2.4): three scales, three anchors each, objectness.

Deviations: any backbone with maps at strides 8, 16 and 32; the neck's width follows the backbone's
channels; ReLU-family activation as configured in the paper's Darknet (leaky, 0.1); anchors scale
with the input unless `fixed_anchors`. Modules stand in the order of yolov3.cfg's file
(`classify.backbones.darknet_detectors`).
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar

from torch import Tensor, nn

from detect.heads.yolo_scales import Pixels, YOLOScales, fit_scaled, upsampled
from detect.heads.yolo_slots import conv
from detect.postprocess import Postprocess
from engine.config.ranges import BoxClasses, InnerShare, Length, Share, Side

STRIDES = (8, 16, 32)


def _convolutional_set(channels: int, width: int) -> nn.Sequential:
    """The five alternating 1x1 and 3x3 convolutions before each scale's prediction."""
    layers = [conv(channels, width, 1)]
    for _ in range(2):
        layers += [conv(width, 2 * width, 3), conv(2 * width, width, 1)]
    return nn.Sequential(*layers)


class YOLOv3(YOLOScales):
    """Box, objectness and class of every anchor at three strides.

    Args:
        anchors: (width, height) in pixels of an input whose side is `anchors_at`, small to large: a
            third for each stride, fine to coarse. They are scaled to the input.
        fixed_anchors: whether they are pixels of any input instead, as in Darknet; None is False,
            or True under Darknet's weights.
        ignore: a slot whose predicted box has an IoU above this with an object is no negative.
        prior: initial objectness of every slot.
    """

    fits: ClassVar = {"anchors": partial(fit_scaled, 9)}

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: BoxClasses,
        activation: str,
        anchors: Annotated[Sequence[tuple[Pixels, Pixels]], Length(3, 300)],
        anchors_at: Side = 416,
        fixed_anchors: bool | None = None,
        ignore: Share = 0.5,
        prior: InnerShare = 0.01,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__(
            name="yolo_v3",
            scales=STRIDES,
            strides=strides,
            num_classes=num_classes,
            activation=activation,
            anchors=anchors,
            anchors_at=None if fixed_anchors else anchors_at,
            ignore=ignore,
            postprocess=postprocess,
        )
        self.sets, self.laterals, self.predictors = (
            nn.ModuleList(),
            nn.ModuleList(),
            nn.ModuleList(),
        )
        coarser = 0  # channels of the level before
        for level in reversed(self.levels):  # coarse to fine; each takes the one before, upsampled
            width = channels[level] // 2
            if coarser:
                self.laterals.append(conv(coarser, coarser // 2, 1))
            self.sets.append(_convolutional_set(channels[level] + coarser // 2, width))
            self.predictors.append(self.predictor(width, 2 * width, prior))
            coarser = width

    def maps(self, features: list[Tensor]) -> list[Tensor]:
        """The outputs [B, n * (5 + K), h, w] of each map, the coarsest first."""
        found: list[Tensor] = []
        x = features[self.levels[-1]]
        for i, level in enumerate(reversed(self.levels)):
            x = self.sets[i](upsampled(self.laterals[i - 1](x), features[level]) if i else x)
            found.append(self.predictors[i](x))
        return found
