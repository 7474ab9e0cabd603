"""YOLOv1's loss (arXiv 1506.02640, equation 3): squared errors of linear outputs.

Deviation: terms are divided by the number of positives instead of the batch.
"""

from torch import Tensor, nn

from classify.losses import num_positives, one_hot
from detect.losses.yolo_v2 import objectness_target
from engine.config.ranges import NonNegative
from engine.structures import BACKGROUND, Assigned, Output


class YOLOv1(nn.Module):
    """Squared errors of box code, objectness (its target is the IoU) and classes.

    The box code of head=yolo_v1 has square roots of sizes, so that small boxes weigh more.

    Args:
        box: lambda_coord.
        no_object: lambda_noobj, weight of the objectness of slots without an object.
    """

    activation = "linear"
    requires = frozenset({"logits", "boxes", "objectness"})
    trains = frozenset({"logits", "boxes", "objectness"})

    def __init__(self, *, box: NonNegative = 5.0, no_object: NonNegative = 0.5) -> None:
        super().__init__()
        self.box, self.no_object = box, no_object

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Terms `box`, `objectness` and `class`."""
        labels, count = assigned.labels, num_positives(assigned.labels)
        positive = (labels >= 0).float()  # [B, A]
        box = (output.boxes - assigned.boxes).square().sum(-1)
        objectness = (output.objectness - objectness_target(assigned)).square()
        weight = positive + self.no_object * (labels == BACKGROUND)
        classes = (output.logits - one_hot(labels, output.logits.shape[-1])).square().sum(-1)
        return {
            "box": self.box * (box * positive).sum() / count,
            "objectness": (objectness * weight).sum() / count,
            "class": (classes * positive).sum() / count,
        }
