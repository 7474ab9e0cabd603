"""YOLOv3's loss (arXiv 1804.02767, 2.1 and 2.2, with the constants of its Darknet code).

Deviations: the loss of the centre's offset is binary cross-entropy, whose gradient is the paper's
"ground truth minus prediction"; terms are divided by the number of positives instead of the batch
size.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from classify.losses import num_positives, one_hot
from detect.losses.yolo_v2 import box_weight
from engine.config.ranges import NonNegative
from engine.structures import IGNORE, Assigned, Output


class YOLOv3(nn.Module):
    """Box, objectness, and a binary cross-entropy for each class.

    Args:
        box, objectness, classes: weights of the terms.
    """

    activation = "sigmoid"
    requires = frozenset({"logits", "boxes", "objectness"})
    trains = frozenset({"logits", "boxes", "objectness"})

    def __init__(
        self, *, box: NonNegative = 1.0, objectness: NonNegative = 1.0, classes: NonNegative = 1.0
    ) -> None:
        super().__init__()
        self.box, self.objectness, self.classes = box, objectness, classes

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Terms `box` (weighted by `Assigned.weight`), `objectness` and `class`."""
        positive = (assigned.labels >= 0).float()  # [B, A]
        count = num_positives(assigned.labels)
        pred, target = output.boxes, assigned.boxes
        centre = _bce(pred[..., :2], target[..., :2].sigmoid()).sum(-1)
        size = (pred[..., 2:] - target[..., 2:]).square().sum(-1) / 2
        objectness = _bce(output.objectness, positive) * (assigned.labels != IGNORE)
        classes = _bce(output.logits, one_hot(assigned.labels, output.logits.shape[-1])).sum(-1)
        return {
            "box": self.box * ((centre + size) * box_weight(assigned)).sum() / count,
            "objectness": self.objectness * objectness.sum() / count,
            "class": self.classes * (classes * positive).sum() / count,
        }


def _bce(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
