"""From scored boxes to detections: score threshold, NMS, at most so many per image."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, nms

from engine.config.ranges import Kept, PartialShare, Positive, PositiveShare
from engine.errors import UserError
from engine.structures import Objects

NMS_METHODS = ("class_wise", "agnostic", "soft")
SOFT_MOST = 10_000  # boxes an image; their IoUs take 400 MB


class Postprocess:
    """Score threshold and non-maximum suppression (NMS).

    Images are processed one by one so that the detections of one never depend on its batch.

    Args:
        score: boxes with a score at or below it are dropped.
        nms: `class_wise`: of two boxes of the same class with an IoU above `iou`, the one with the
            lower score is dropped; `agnostic`: also across classes; `soft`: each detection scales
            the other scores of its class by exp(-IoU ** 2 / sigma) (arXiv 1704.04503, 3).
        iou: threshold of `class_wise` and `agnostic`.
        sigma: of `soft`.
        pre_nms: at most so many (box, class) pairs of an image enter NMS, those of highest score.
        max_detections: per image, at most.
    """

    def __init__(
        self,
        *,
        score: PartialShare = 0.01,
        nms: str = "class_wise",
        iou: PositiveShare = 0.5,
        sigma: Positive = 0.5,
        pre_nms: Kept = 1000,
        max_detections: Kept = 100,
    ) -> None:
        if not 0 <= score < 1 or not 0 < iou <= 1:
            raise UserError(
                f"postprocess score={score} iou={iou}: expected 0 <= score < 1 and 0 < iou <= 1"
            )
        if nms not in NMS_METHODS:
            raise UserError(f"postprocess nms={nms}: expected one of {', '.join(NMS_METHODS)}")
        if not sigma > 0:
            raise UserError(f"postprocess sigma={sigma}: expected a number above 0")
        if nms == "soft" and pre_nms > SOFT_MOST:
            raise UserError(
                f"postprocess nms=soft pre_nms={pre_nms}: expected at most {SOFT_MOST} boxes, of "
                "which each pair is compared"
            )
        self.score, self.nms, self.iou, self.sigma = score, nms, iou, sigma
        self.pre_nms, self.max_detections = pre_nms, max_detections

    def __call__(self, boxes: Tensor, scores: Tensor) -> Objects:
        """Detections of boxes [B, A, 4] and scores [B, A, K] in 0..1; best first in each image."""
        return Objects.cat([self._image(b, s) for b, s in zip(boxes, scores, strict=True)])

    def _image(self, boxes: Tensor, scores: Tensor) -> Objects:
        flat = scores.flatten()  # [A * K]
        best, index = flat.topk(min(self.pre_nms, len(flat)))
        index = index[best > self.score]
        slot, label = index // scores.shape[1], index % scores.shape[1]
        above_zero = (boxes[slot] - boxes.amin()).float()  # below 0 batched_nms mixes up classes
        if self.nms == "soft":
            kept, best = self._soft(above_zero, flat[index], label)
        else:
            kept = self._hard(above_zero, flat[index], label)[: self.max_detections]
            best = flat[index[kept]]
        return Objects(boxes[slot[kept]], label[kept], scores=best)

    def _hard(self, boxes: Tensor, scores: Tensor, label: Tensor) -> Tensor:
        """Indices of the boxes that are kept, best first."""
        if self.nms == "agnostic":
            return nms(boxes, scores, self.iou)
        return batched_nms(boxes, scores, label, self.iou)

    def _soft(self, boxes: Tensor, scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Indices and lowered scores, best first; boxes that fall to `score` are dropped."""
        iou = box_iou(boxes, boxes) * (label[:, None] == label)  # [N, N]
        decay = torch.exp(-iou.square() / self.sigma).fill_diagonal_(0)  # each is found once
        rows, best = [label[:0]], [scores[:0]]
        for _ in range(min(self.max_detections, len(scores))):
            top, row = scores.max(0, keepdim=True)  # [1]: an index that stays on the device
            rows.append(row)
            best.append(top)
            scores = scores * decay[row[0]]
        lowered = torch.cat(best)
        return torch.cat(rows)[lowered > self.score], lowered[lowered > self.score]
