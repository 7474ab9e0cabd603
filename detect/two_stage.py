"""The parts of a two-stage detector between its stages: sampling, proposals, regions.

In torchvision's modules of the second stage, classes count from 1 and 0 is the background.
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

from engine.config.ranges import Kept, PositiveShare, Share
from engine.errors import UserError
from engine.structures import Objects


class Sampling:
    """Matching thresholds of a stage, and how many of its slots are sampled for the loss.

    Args:
        positive: IoU from which a slot is assigned to an object.
        negative: IoU below which it is background; in between it is left out of the loss.
        count: slots drawn at random per image, at most.
        share: fraction of positives among them, at most.
    """

    def __init__(
        self, *, positive: Share, negative: Share, count: Kept, share: PositiveShare
    ) -> None:
        if not 0 <= negative <= positive <= 1 or not 0 < share <= 1 or count < 1:
            raise UserError(
                f"head: positive={positive} negative={negative} share={share} count={count}: "
                "expected numbers in 0..1, negative at most positive, and count at least 1"
            )
        self.positive, self.negative, self.count, self.share = positive, negative, count, share

    @property
    def torchvision_arguments(self) -> dict[str, Any]:
        """The numbers under the names of torchvision's arguments."""
        return {
            "fg_iou_thresh": self.positive,
            "bg_iou_thresh": self.negative,
            "batch_size_per_image": self.count,
            "positive_fraction": self.share,
        }


class Proposals:
    """How many boxes of the first stage become proposals; pairs: (in training, in evaluation).

    Args:
        pre_nms_top_n: boxes kept per level before NMS.
        post_nms_top_n: boxes kept per image after NMS.
        iou: threshold of NMS, which is done level by level.
    """

    def __init__(
        self,
        *,
        pre_nms_top_n: tuple[Kept, Kept] = (2000, 1000),
        post_nms_top_n: tuple[Kept, Kept] = (2000, 1000),
        iou: PositiveShare = 0.7,
    ) -> None:
        if (
            len(pre_nms_top_n) != 2
            or len(post_nms_top_n) != 2
            or min(*pre_nms_top_n, *post_nms_top_n) < 1
        ):
            raise UserError(
                f"head.proposals: pre_nms_top_n={list(pre_nms_top_n)} "
                f"post_nms_top_n={list(post_nms_top_n)}: expected pairs of "
                "numbers above 0, [in training, in evaluation]"
            )
        self.pre_nms_top_n = {"training": pre_nms_top_n[0], "testing": pre_nms_top_n[1]}
        self.post_nms_top_n = {"training": post_nms_top_n[0], "testing": post_nms_top_n[1]}
        self.iou = iou

    def build_rpn(
        self, anchors: rpn.AnchorGenerator, head: rpn.RPNHead, sampling: Sampling
    ) -> rpn.RegionProposalNetwork:
        """The first stage of torchvision with these numbers."""
        return rpn.RegionProposalNetwork(
            anchors,
            head,
            **sampling.torchvision_arguments,
            pre_nms_top_n=self.pre_nms_top_n,
            post_nms_top_n=self.post_nms_top_n,
            nms_thresh=self.iou,
        )


@dataclass
class Regions:
    """Proposals of a batch, and the second stage to classify and refine them.

    Args:
        boxes: proposals of each image, best first, [P, 4] in pixels of the input, no gradient.
        maps: the pyramid's maps by level, [B, C, h, w] each.
        size: (height, width) of the input.
        stage: the second stage: RoI pooling and the predictor.
    """

    boxes: list[Tensor]
    maps: dict[str, Tensor]
    size: tuple[int, int]
    stage: RoIHeads

    def __call__(self, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [R, 1 + K], background first, and box code [R, 1 + K, 4] of boxes of the maps.

        Args:
            boxes: of each image, R in total.
        """
        pooled = self.stage.box_roi_pool(self.maps, boxes, [self.size] * len(boxes))
        logits, code = self.stage.box_predictor(self.stage.box_head(pooled))
        return logits, code.view(*logits.shape, 4)

    def of(self, image: int) -> Self:
        """The regions of one image, as a batch of one."""
        return self._rows(slice(image, image + 1))

    def first(self, images: int) -> Self:
        """The regions of the first `images` images of the batch."""
        return self._rows(slice(images))

    def _rows(self, rows: slice) -> Self:
        maps = {name: x[rows] for name, x in self.maps.items()}
        return replace(self, boxes=self.boxes[rows], maps=maps)

    def float(self) -> Self:
        """A copy with the maps in float32."""
        return replace(self, maps={name: x.float() for name, x in self.maps.items()})

    def decode(self) -> Objects:
        """Detections: proposals classified and refined, after NMS; best first in each image.

        Images are processed one by one so that the detections of one never depend on its batch.
        """
        return Objects.cat([self.of(i)._decode_single() for i in range(len(self.boxes))])

    def _decode_single(self) -> Objects:
        logits, code = self(self.boxes)
        if not (logits.isfinite().all() and code.isfinite().all()):
            # which NMS would drop; the engine refuses such a score and names its image
            nan = logits.new_full((1,), torch.nan)
            return Objects(nan.expand(1, 4), torch.zeros_like(nan, dtype=torch.int64), scores=nan)
        boxes, scores, labels = self.stage.postprocess_detections(
            logits, code.flatten(1), self.boxes, [self.size]
        )
        return Objects(boxes[0], labels[0] - 1, scores=scores[0])


class SampledRois(NamedTuple):
    """The regions sampled for the loss, of all images, and their targets."""

    boxes: list[Tensor]  # of each image, R in total
    labels: Tensor  # [R] in 0..K-1 or BACKGROUND
    code: Tensor  # [R, 4]


def ignore_overlapping(labels: Tensor, boxes: Tensor, ignored: Tensor, overlap: float) -> Tensor:
    """Labels [A] with -1, which is never sampled, for negatives on an ignored object.

    Args:
        labels: [A], 0 for a negative.
        boxes: [A, 4].
        ignored: boxes of the ignored objects [I, 4].
        overlap: IoU with an ignored object from which a box is no negative.
    """
    best = F.pad(box_iou(boxes, ignored), (1, 0)).amax(1)  # a column of 0: there may be no object
    return labels.masked_fill((labels == 0) & (best >= overlap), -1)


def roi_pooler(strides: Sequence[int], resolution: int) -> MultiScaleRoIAlign:
    """RoIAlign from the level that fits a region's size: stride 16 at 224 x 224 (1612.03144, 4.2).

    The strides are set here; torchvision would guess them, once, from the first images it sees.
    """
    pooler = MultiScaleRoIAlign([str(i) for i in range(len(strides))], resolution, 2)
    levels = [s.bit_length() - 1 for s in (strides[0], strides[-1])]
    pooler.scales = [1 / s for s in strides]
    pooler.map_levels = initLevelMapper(*levels)
    return pooler


@contextmanager
def fixed_seed(device: torch.device, fixed: bool) -> Iterator[None]:
    """If `fixed`, draw with seed 0 inside, and restore the random state of training after."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices, enabled=fixed):
        if fixed:
            torch.manual_seed(0)
        yield
