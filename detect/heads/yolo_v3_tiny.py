"""The head of YOLOv3-tiny, which has no paper but Darknet's yolov3-tiny.cfg: two scales, no sets.

https://github.com/pjreddie/darknet. Deviations: any backbone with maps at strides 16 and 32; the
neck's width follows the backbone's channels; anchors scale with the input unless `fixed_anchors`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar

from torch import Tensor, nn

from detect.heads.yolo_scales import Pixels, YOLOScales, fit_scaled, upsampled
from detect.heads.yolo_slots import conv
from detect.postprocess import Postprocess
from engine.config.ranges import BoxClasses, InnerShare, Length, Share, Side

STRIDES = (16, 32)
ANCHORS = [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)]  # of yolov3-tiny.cfg


class YOLOv3Tiny(YOLOScales):
    """Box, objectness and class of every anchor at two strides.

    Args:
        anchors: (width, height) in pixels of an input whose side is `anchors_at`, small to large: a
            half for each stride, fine to coarse. They are scaled to the input. None: yolov3-tiny's,
            or those of the published file under its weights.
        fixed_anchors: whether they are pixels of any input instead, as in Darknet; None is False,
            or True under Darknet's weights.
        ignore: a slot whose predicted box has an IoU above this with an object is no negative.
        prior: initial objectness of every slot.
    """

    fits: ClassVar = {"anchors": partial(fit_scaled, 6)}

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: BoxClasses,
        activation: str,
        anchors: Annotated[Sequence[tuple[Pixels, Pixels]], Length(2, 200)] | None = None,
        anchors_at: Side = 416,
        fixed_anchors: bool | None = None,
        ignore: Share = 0.7,
        prior: InnerShare = 0.01,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__(
            name="yolo_v3_tiny",
            scales=STRIDES,
            strides=strides,
            num_classes=num_classes,
            activation=activation,
            anchors=ANCHORS if anchors is None else anchors,
            anchors_at=None if fixed_anchors else anchors_at,
            ignore=ignore,
            postprocess=postprocess,
        )
        fine, coarse = (channels[level] for level in self.levels)
        width = max(coarse // 4, 2)
        self.narrow = conv(coarse, width, 1)
        self.lateral = conv(width, width // 2, 1)
        self.predictors = nn.ModuleList(
            [
                self.predictor(width, 2 * width, prior),
                self.predictor(width // 2 + fine, width, prior),
            ]
        )

    def maps(self, features: list[Tensor]) -> list[Tensor]:
        """The outputs [B, n * (5 + K), h, w] of each map, the coarsest first."""
        fine, coarse = (features[level] for level in self.levels)
        x = self.narrow(coarse)
        found = self.predictors[0](x)
        return [found, self.predictors[1](upsampled(self.lateral(x), fine))]
