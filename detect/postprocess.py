"""From scored boxes to detections: score threshold, NMS, at most so many per image."""

from math import ceil, sqrt

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, nms

from engine.config.ranges import Kept, PartialShare, Positive, PositiveShare
from engine.errors import UserError
from engine.structures import Fixed, Objects

FAR = 2.0**16  # pixels; beyond it moving boxes apart by class costs too much of float32
NMS_METHODS = ("class_wise", "agnostic", "soft")
SOFT_MOST = 10_000  # boxes an image; their IoUs take 400 MB


class Postprocess:
    """Score threshold and non-maximum suppression (NMS).

    Images are processed one by one so that the detections of one never depend on its batch. Of
    equal scores the lower slot comes first, then the lower class.

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

    @property
    def protocol(self) -> str:
        """Threshold, suppression and limits in one line."""
        how = f"sigma {self.sigma:g}" if self.nms == "soft" else f"IoU above {self.iou:g}"
        before = f"{how}, of the best {self.pre_nms}"
        return describe(self.score, self.nms, before, self.max_detections)

    def __call__(self, boxes: Tensor, scores: Tensor) -> Objects:
        """Detections of boxes [B, A, 4] and scores [B, A, K] in 0..1; best first in each image."""
        return Objects.cat([self._image(b, s) for b, s in zip(boxes, scores, strict=True)])

    def fixed(self, boxes: Tensor, scores: Tensor) -> Fixed:
        """The same in a graph of tensors of a fixed size, for an exported file.

        Raises:
            UserError: of `soft`, which is a loop over detections.
        """
        if self.nms == "soft":
            raise UserError("nms=true: soft NMS is a loop, which no file holds; export nms=false")
        classes, pairs = scores.shape[2], scores.flatten(1)  # [B, A * K]
        best, index = pairs.topk(min(self.pre_nms, pairs.shape[1]), 1)  # [B, P]
        label = index % classes
        boxes = _rows(boxes, index // classes)  # [B, P, 4]
        kept = nms(self._apart(boxes, label, classes), best.flatten(), self.iou)
        mask = torch.zeros_like(best).flatten().index_fill(0, kept, 1).view_as(best) > 0
        best = torch.where(mask & (best > self.score), best, -1.0)
        best, row = best.topk(min(self.max_detections, best.shape[1]), 1)  # [B, N]
        label = torch.where(best < 0, -1, label.gather(1, row))
        return Fixed(torch.where(best[..., None] < 0, 0.0, _rows(boxes, row)), best, label)

    def _apart(self, boxes: Tensor, label: Tensor, classes: int) -> Tensor:
        """Boxes [B * P, 4] moved so that none overlaps one of another image, or class.

        Classes lie in a square beside each other, images below each other: the farther a box is
        moved, the fewer bits of float32 are left of its own sides.
        """
        boxes = boxes.clamp(-FAR, FAR)
        side = ceil(sqrt(classes)) if self.nms == "class_wise" else 1
        place = torch.zeros_like(label) if self.nms == "agnostic" else label
        image = torch.arange(boxes.shape[0], device=boxes.device)[:, None]
        cell = torch.stack([place % side, place // side + image * side], -1)  # [B, P, xy]
        least = boxes.min()
        extent = boxes.max() - least + 1
        return (boxes - least + (cell * extent).repeat(1, 1, 2)).flatten(0, 1)

    def _image(self, boxes: Tensor, scores: Tensor) -> Objects:
        flat = scores.flatten()  # [A * K]
        least = flat.topk(min(self.pre_nms, len(flat))).values[-1:]  # [1]
        index = ((flat >= least) & (flat > self.score)).nonzero()[:, 0]
        index = index[flat[index].argsort(descending=True, stable=True)[: self.pre_nms]]
        slot, label = index // scores.shape[1], index % scores.shape[1]
        # a far box, or one of an infinite corner, would take all others' precision
        far = not bool((boxes.abs() <= FAR).all())
        # below 0 batched_nms mixes up classes
        moved = boxes[slot].float() if far else (boxes[slot] - boxes.amin()).float()
        if self.nms == "soft":
            kept, best = self._soft(moved, flat[index], label)
        else:
            suppress = self._by_class if far and self.nms == "class_wise" else self._hard
            kept = suppress(moved, flat[index], label).sort().values[: self.max_detections]
            best = flat[index[kept]]
        return Objects(boxes[slot[kept]], label[kept], scores=best)

    def _hard(self, boxes: Tensor, scores: Tensor, label: Tensor) -> Tensor:
        """Indices of the boxes that are kept."""
        if self.nms == "agnostic":
            return nms(boxes, scores, self.iou)
        return batched_nms(boxes, scores, label, self.iou)

    def _by_class(self, boxes: Tensor, scores: Tensor, label: Tensor) -> Tensor:
        """As `_hard`, one class after the other: no box is moved."""
        kept = [label.new_zeros(0)]
        for number in label.unique():
            rows = (label == number).nonzero()[:, 0]
            kept.append(rows[nms(boxes[rows], scores[rows], self.iou)])
        return torch.cat(kept)

    def _soft(self, boxes: Tensor, scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Indices and lowered scores, best first; boxes that fall to `score` are dropped."""
        # [N, N]; NaN of a box with an infinite corner
        iou = box_iou(boxes, boxes).nan_to_num(0) * (label[:, None] == label)
        decay = torch.exp(-iou.square() / self.sigma).fill_diagonal_(0)  # each is found once
        rows, best = [label[:0]], [scores[:0]]
        for _ in range(min(self.max_detections, len(scores))):
            top, row = scores.max(0, keepdim=True)  # [1]: an index that stays on the device
            rows.append(row)
            best.append(top)
            scores = scores * decay[row[0]]
        lowered = torch.cat(best)
        return torch.cat(rows)[lowered > self.score], lowered[lowered > self.score]


def _rows(boxes: Tensor, row: Tensor) -> Tensor:
    """[B, N, 4]: of each image the boxes [B, A, 4] of these rows [B, N]."""
    return boxes.gather(1, row[..., None].expand(-1, -1, 4))


def describe(score: float, nms: str, how: str, max_detections: int) -> str:
    """Threshold, suppression and limits in one line."""
    return (
        f"scores above {score:g}, {nms} NMS ({how}), at most {max_detections} detections per image"
    )
