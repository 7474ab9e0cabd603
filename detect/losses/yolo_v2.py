"""YOLOv2's loss: the paper (arXiv 1612.08242) names none; this is its Darknet region layer's.

Objectness learns the predicted box's overlap with its object. Deviations: terms divided by the
number of positives instead of the batch; nothing pulls boxes to their anchors in the first steps.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from classify.losses import num_positives
from engine.structures import BACKGROUND, Assigned, Output


def confidence(assigned: Assigned) -> Tensor:
    """What objectness should be [B, A]: a positive slot's overlap (1 if not assigned), else 0."""
    positive = (assigned.labels >= 0).float()
    return positive if assigned.iou is None else positive * assigned.iou


def box_weight(assigned: Assigned) -> Tensor:
    """A positive slot's weight [B, A] (1 where the head does not assign any), else 0."""
    positive = (assigned.labels >= 0).float()
    return positive if assigned.weight is None else positive * assigned.weight


class YOLOv2(nn.Module):
    """Half the squared errors of box and objectness, cross-entropy of the class.

    Args:
        box, classes: weights of the terms.
        objects, no_object: of objectness, where a slot answers for an object and where it does not.
    """

    activation = "softmax"
    requires = frozenset({"logits", "boxes", "objectness"})
    trains = frozenset({"logits", "boxes", "objectness"})

    def __init__(
        self,
        *,
        box: float = 1.0,
        objects: float = 5.0,
        no_object: float = 1.0,
        classes: float = 1.0,
    ) -> None:
        super().__init__()
        self.box, self.objects, self.no_object, self.classes = box, objects, no_object, classes

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Terms `box`, `objectness` and `class`."""
        labels, count = assigned.labels, num_positives(assigned.labels)
        positive = (labels >= 0).float()  # [B, A]
        said, want = output.boxes, assigned.boxes  # [B, A, 4]
        centre = (said[..., :2].sigmoid() - want[..., :2].sigmoid()).square().sum(-1)
        size = (said[..., 2:] - want[..., 2:]).square().sum(-1)
        objectness = (output.objectness.sigmoid() - confidence(assigned)).square() / 2
        counted = self.objects * positive + self.no_object * (labels == BACKGROUND)
        logits = output.logits.transpose(1, 2)  # [B, K, A]
        classes = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")  # [B, A]
        return {
            "box": self.box * ((centre + size) / 2 * box_weight(assigned)).sum() / count,
            "objectness": (objectness * counted).sum() / count,
            "class": self.classes * (classes * positive).sum() / count,
        }
