"""What passes between the two stages of a detector: proposals, and what is asked about them.

torchvision's modules of the second stage count classes from 1, 0 is the background.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import rpn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign, box_iou
from torchvision.ops.poolers import initLevelMapper

from engine.errors import UserError
from engine.structures import Objects


class Sampling:
    """Which slots of a stage are compared with the objects.

    Args:
        positive: overlap from which a slot answers for an object.
        negative: overlap below which it is background; in between it is left out.
        count: a random few of an image, so many at most.
        share: of positives among them, at most.
    """

    def __init__(self, *, positive: float, negative: float, count: int, share: float) -> None:
        if not 0 <= negative <= positive <= 1 or not 0 < share <= 1 or count < 1:
            raise UserError(
                f"head: positive={positive} negative={negative} share={share} count={count}: "
                "expected shares in 0..1, negative at most positive, and a slot at least"
            )
        self.positive, self.negative, self.count, self.share = positive, negative, count, share

    @property
    def named(self) -> dict[str, Any]:
        """As torchvision calls them."""
        return {
            "fg_iou_thresh": self.positive,
            "bg_iou_thresh": self.negative,
            "batch_size_per_image": self.count,
            "positive_fraction": self.share,
        }


class Proposals:
    """Which boxes of the first stage the second looks at; pairs: in training, in evaluation.

    Args:
        pre_nms_top_n: of each level, before suppression.
        post_nms_top_n: of each image, after it.
        iou: of two boxes of a level that overlap by more, the lower score goes.
    """

    def __init__(
        self,
        *,
        pre_nms_top_n: Sequence[int] = (2000, 1000),
        post_nms_top_n: Sequence[int] = (2000, 1000),
        iou: float = 0.7,
    ) -> None:
        if (
            len(pre_nms_top_n) != 2
            or len(post_nms_top_n) != 2
            or min(*pre_nms_top_n, *post_nms_top_n) < 1
        ):
            raise UserError(
                f"head.proposals: pre_nms_top_n={list(pre_nms_top_n)} "
                f"post_nms_top_n={list(post_nms_top_n)}: expected pairs of "
                "numbers above 0, in training and in evaluation"
            )
        self.pre_nms_top_n = {"training": pre_nms_top_n[0], "testing": pre_nms_top_n[1]}
        self.post_nms_top_n, self.iou = (
            {"training": post_nms_top_n[0], "testing": post_nms_top_n[1]},
            iou,
        )

    def network(
        self, anchors: rpn.AnchorGenerator, head: rpn.RPNHead, sampling: Sampling
    ) -> rpn.RegionProposalNetwork:
        """The first stage of torchvision, with these numbers."""
        return rpn.RegionProposalNetwork(
            anchors,
            head,
            **sampling.named,
            pre_nms_top_n=self.pre_nms_top_n,
            post_nms_top_n=self.post_nms_top_n,
            nms_thresh=self.iou,
        )


@dataclass
class Regions:
    """Where the second stage may look, and what it looks with.

    Args:
        boxes: of each image, best first, [P, 4] in pixels of the input, without gradient.
        maps: of the pyramid, [B, width, h, w] a level.
        size: (height, width) of the input.
        stage: pools the maps under boxes and says what is there.
    """

    boxes: list[Tensor]
    maps: dict[str, Tensor]
    size: tuple[int, int]
    stage: RoIHeads

    def __call__(self, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [R, 1 + K], background first, and box code [R, 1 + K, 4] of all images' boxes.

        Args:
            boxes: of each image, R together.
        """
        pooled = self.stage.box_roi_pool(self.maps, boxes, [self.size] * len(boxes))
        logits, code = self.stage.box_predictor(self.stage.box_head(pooled))
        return logits, code.view(*logits.shape, 4)

    def of(self, image: int) -> Self:
        """Those of one image, as a batch of one."""
        return self._rows(slice(image, image + 1))

    def first(self, images: int) -> Self:
        """Those of the first few images of the batch."""
        return self._rows(slice(images))

    def _rows(self, rows: slice) -> Self:
        maps = {name: x[rows] for name, x in self.maps.items()}
        return replace(self, boxes=self.boxes[rows], maps=maps)

    def float(self) -> Self:
        """The same in float32."""
        return replace(self, maps={name: x.float() for name, x in self.maps.items()})

    def decode(self) -> Objects:
        """What stands in the proposals: refined, suppressed, best first in each image.

        Images are done one at a time so that what is found in one never depends on its batch.
        """
        return Objects.cat([self.of(i)._one() for i in range(len(self.boxes))])

    def _one(self) -> Objects:
        logits, code = self(self.boxes)
        boxes, scores, labels = self.stage.postprocess_detections(
            logits, code.flatten(1), self.boxes, [self.size]
        )
        return Objects(boxes[0], labels[0] - 1, scores=scores[0])


class SampledRois(NamedTuple):
    """The regions that are compared, of all images together, and what should be said of them."""

    boxes: list[Tensor]  # of each image, R together
    labels: Tensor  # [R] in 0..K-1 or BACKGROUND
    code: Tensor  # [R, 4]


def ignore_overlapping(labels: Tensor, boxes: Tensor, ignored: Tensor, overlap: float) -> Tensor:
    """Labels [A] where boxes [A, 4] on an ignored object [I, 4] are no longer negative.

    In labels 0 is a negative, and -1 is never sampled.
    """
    best = F.pad(box_iou(boxes, ignored), (1, 0)).amax(1)  # a column of 0: there may be no object
    return labels.masked_fill((labels == 0) & (best >= overlap), -1)


def pooler(strides: Sequence[int], resolution: int) -> MultiScaleRoIAlign:
    """Takes a region of 224 pixels a side from the map of stride 16 (arXiv 1612.03144, 4.2).

    It is told the strides: it would guess them, once, from the first images it sees.
    """
    pooler = MultiScaleRoIAlign([str(i) for i in range(len(strides))], resolution, 2)
    levels = [s.bit_length() - 1 for s in (strides[0], strides[-1])]
    pooler.scales = [1 / s for s in strides]
    pooler.map_levels = initLevelMapper(*levels)
    return pooler


@contextmanager
def repeatable(device: torch.device, fixed: bool) -> Iterator[None]:
    """Where `fixed`, what is drawn is always the same, and training's draws do not move on."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices, enabled=fixed):
        if fixed:
            torch.manual_seed(0)
        yield
