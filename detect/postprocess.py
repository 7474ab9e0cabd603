"""From scored boxes to objects: threshold, class-wise suppression, the best few a picture."""

from torch import Tensor
from torchvision.ops import batched_nms

from engine.errors import UserError
from engine.structures import Objects


class Postprocess:
    """Class-wise non-maximum suppression, picture by picture.

    Pictures are done one at a time so that what is found in one never depends on its batch.

    Args:
        score: slots below it are dropped.
        iou: of two boxes of one class that overlap by more, the lower score goes.
        candidates: of a picture's slot-class pairs, only so many best enter suppression.
        keep: most objects a picture.
    """

    def __init__(
        self, *, score: float = 0.01, iou: float = 0.5, candidates: int = 1000, keep: int = 100
    ) -> None:
        if not 0 <= score < 1 or not 0 < iou <= 1:
            raise UserError(f"postprocess score={score} iou={iou}: expected shares in 0..1")
        self.score, self.iou, self.candidates, self.keep = score, iou, candidates, keep

    def __call__(self, boxes: Tensor, scores: Tensor) -> Objects:
        """Boxes [B, A, 4] and scores [B, A, K] in 0..1 -> objects, best first in each picture."""
        return Objects.cat([self._one(b, s) for b, s in zip(boxes, scores, strict=True)])

    def _one(self, boxes: Tensor, scores: Tensor) -> Objects:
        flat = scores.flatten()  # [A * K]
        best, index = flat.topk(min(self.candidates, len(flat)))
        index = index[best > self.score]
        slot, label = index // scores.shape[1], index % scores.shape[1]
        above_zero = (boxes[slot] - boxes.amin()).float()  # batched_nms mixes classes below 0
        kept = batched_nms(above_zero, flat[index], label, self.iou)[: self.keep]
        return Objects(boxes[slot[kept]], label[kept], scores=flat[index[kept]])
