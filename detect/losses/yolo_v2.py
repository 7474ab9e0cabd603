"""YOLOv2's loss: the paper (arXiv 1612.08242) gives none; this is the one of its code, Darknet.

The target of objectness is the IoU of the predicted box and its object. Deviations: terms are
divided by the number of positives instead of the batch size; no term pulls boxes to their anchors
in the first steps.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from classify.losses import num_positives
from engine.config.ranges import NonNegative
from engine.structures import BACKGROUND, Assigned, Output


def objectness_target(assigned: Assigned) -> Tensor:
    """Target of objectness [B, A]: a positive slot's IoU (1 if the head gives none), else 0."""
    positive = (assigned.labels >= 0).float()
    return positive if assigned.iou is None else positive * assigned.iou


def box_weight(assigned: Assigned) -> Tensor:
    """Weight [B, A] of a positive slot (1 if the head gives none), else 0."""
    positive = (assigned.labels >= 0).float()
    return positive if assigned.weight is None else positive * assigned.weight


class YOLOv2(nn.Module):
    """Half the squared errors of box and objectness, and cross-entropy of the class.

    Args:
        box, classes: weights of the terms.
        objects, no_object: weights of the objectness of slots with and without an object.
    """

    activation = "softmax"
    requires = frozenset({"logits", "boxes", "objectness"})
    trains = frozenset({"logits", "boxes", "objectness"})

    def __init__(
        self,
        *,
        box: NonNegative = 1.0,
        objects: NonNegative = 5.0,
        no_object: NonNegative = 1.0,
        classes: NonNegative = 1.0,
    ) -> None:
        super().__init__()
        self.box, self.objects, self.no_object, self.classes = box, objects, no_object, classes

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Terms `box`, `objectness` and `class`."""
        labels, count = assigned.labels, num_positives(assigned.labels)
        positive = (labels >= 0).float()  # [B, A]
        pred, target = output.boxes, assigned.boxes  # [B, A, 4]
        centre = (pred[..., :2].sigmoid() - target[..., :2].sigmoid()).square().sum(-1)
        size = (pred[..., 2:] - target[..., 2:]).square().sum(-1)
        objectness = (output.objectness.sigmoid() - objectness_target(assigned)).square() / 2
        weight = self.objects * positive + self.no_object * (labels == BACKGROUND)
        logits = output.logits.transpose(1, 2)  # [B, K, A]
        classes = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")  # [B, A]
        return {
            "box": self.box * ((centre + size) / 2 * box_weight(assigned)).sum() / count,
            "objectness": (objectness * weight).sum() / count,
            "class": self.classes * (classes * positive).sum() / count,
        }
