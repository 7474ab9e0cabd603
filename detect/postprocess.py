"""From scored boxes to objects: threshold, suppression, the best few an image."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, nms

from engine.errors import UserError
from engine.structures import Objects

WAYS = ("class_wise", "agnostic", "soft")


class Postprocess:
    """Non-maximum suppression, image by image.

    Images are done one at a time so that what is found in one never depends on its batch.

    Args:
        score: slots below it are dropped.
        nms: `class_wise`, of two boxes of one class that overlap by more than `iou` the lower score
            goes; `agnostic`, of any two boxes; `soft`, no box goes, but each one found lowers the
            scores of its class by exp(-overlap ** 2 / sigma) (arXiv 1704.04503, 3).
        iou: of `class_wise` and `agnostic`.
        sigma: of `soft`.
        pre_nms: of an image's slot-class pairs, only so many best enter suppression.
        max_detections: most objects an image.
    """

    def __init__(
        self,
        *,
        score: float = 0.01,
        nms: str = "class_wise",
        iou: float = 0.5,
        sigma: float = 0.5,
        pre_nms: int = 1000,
        max_detections: int = 100,
    ) -> None:
        if not 0 <= score < 1 or not 0 < iou <= 1:
            raise UserError(f"postprocess score={score} iou={iou}: expected shares in 0..1")
        if nms not in WAYS:
            raise UserError(f"postprocess nms={nms}: expected one of {', '.join(WAYS)}")
        if not sigma > 0:
            raise UserError(f"postprocess sigma={sigma}: expected more than 0")
        self.score, self.nms, self.iou, self.sigma = score, nms, iou, sigma
        self.pre_nms, self.max_detections = pre_nms, max_detections

    def __call__(self, boxes: Tensor, scores: Tensor) -> Objects:
        """Boxes [B, A, 4] and scores [B, A, K] in 0..1 -> objects, best first in each image."""
        return Objects.cat([self._one(b, s) for b, s in zip(boxes, scores, strict=True)])

    def _one(self, boxes: Tensor, scores: Tensor) -> Objects:
        flat = scores.flatten()  # [A * K]
        best, index = flat.topk(min(self.pre_nms, len(flat)))
        index = index[best > self.score]
        slot, label = index // scores.shape[1], index % scores.shape[1]
        above_zero = (boxes[slot] - boxes.amin()).float()  # batched_nms mixes classes below 0
        if self.nms == "soft":
            kept, best = self._soft(above_zero, flat[index], label)
        else:
            kept = self._hard(above_zero, flat[index], label)[: self.max_detections]
            best = flat[index[kept]]
        return Objects(boxes[slot[kept]], label[kept], scores=best)

    def _hard(self, boxes: Tensor, scores: Tensor, label: Tensor) -> Tensor:
        """Rows that stay, best first."""
        if self.nms == "agnostic":
            return nms(boxes, scores, self.iou)
        return batched_nms(boxes, scores, label, self.iou)

    def _soft(self, boxes: Tensor, scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and their lowered scores, best first; those that fall to `score` go."""
        overlap = box_iou(boxes, boxes) * (label[:, None] == label)  # [N, N]
        decay = torch.exp(-overlap.square() / self.sigma).fill_diagonal_(0)  # found only once
        rows, best = [label[:0]], [scores[:0]]
        for _ in range(min(self.max_detections, len(scores))):
            top, row = scores.max(0, keepdim=True)  # [1]: an index that stays on the device
            rows.append(row)
            best.append(top)
            scores = scores * decay[row[0]]
        found = torch.cat(best)
        return torch.cat(rows)[found > self.score], found[found > self.score]
