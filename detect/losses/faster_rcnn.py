"""Faster R-CNN's loss (arXiv 1506.01497, 3.1.2; arXiv 1504.08083, 2.3), four terms.

Both stages divide by the number of sampled anchors or regions, as torchvision does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.config.ranges import NonNegative
from engine.distributed.collectives import mean_count
from engine.structures import IGNORE, Assigned, Output


class FasterRCNN(nn.Module):
    """Objectness and box of the anchors; class and box of the regions.

    Args:
        objectness, proposal, classes, box: weights of the terms.
        beta: difference at which smooth L1's square becomes a line, in units of the code.
    """

    activation = "softmax"
    requires = frozenset({"logits", "boxes", "regions"})
    trains = frozenset({"logits", "boxes", "regions"})

    def __init__(
        self,
        *,
        objectness: NonNegative = 1.0,
        proposal: NonNegative = 1.0,
        classes: NonNegative = 1.0,
        box: NonNegative = 1.0,
        beta: NonNegative = 1 / 9,
    ) -> None:
        super().__init__()
        self.objectness, self.proposal = objectness, proposal
        self.classes, self.box, self.beta = classes, box, beta

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Terms `objectness`, `proposal`, `class` and `box`."""
        return self._anchors(output, assigned) | self._regions(output, assigned)

    def _anchors(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        sampled, positive = assigned.labels != IGNORE, assigned.labels >= 0  # [B, A]
        count = mean_count(sampled.sum())
        logits = output.logits[..., 0]
        losses = F.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
        code = self._smooth_l1(output.boxes, assigned.boxes)
        return {
            "objectness": self.objectness * (losses * sampled).sum() / count,
            "proposal": self.proposal * (code * positive).sum() / count,
        }

    def _regions(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        boxes, labels, target = assigned.regions
        logits, code = output.regions(boxes)  # [R, 1 + K], [R, 1 + K, 4]
        count = mean_count(torch.full((), len(labels), device=labels.device))
        classes = F.cross_entropy(logits, labels + 1, reduction="sum") / count
        of_class = code[torch.arange(len(labels), device=labels.device), labels + 1]  # [R, 4]
        box = (self._smooth_l1(of_class, target) * (labels >= 0)).sum() / count
        return {"class": self.classes * classes, "box": self.box * box}

    def _smooth_l1(self, pred: Tensor, target: Tensor) -> Tensor:
        """Summed over the four numbers of a box."""
        return F.smooth_l1_loss(pred, target, beta=self.beta, reduction="none").sum(-1)
