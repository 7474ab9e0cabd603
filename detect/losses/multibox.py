"""SSD's loss (arXiv 1512.02325, 2.2): softmax with a background, hard negatives, smooth L1."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detect.losses.box import SmoothL1
from engine.structures import BACKGROUND, Assigned, Output


class Multibox(nn.Module):
    """Cross-entropy of the positives and of each picture's worst negatives, and the box term.

    Args:
        negatives: so many negatives a positive, the ones with the highest loss. A picture without
            a positive gives none, as in the paper's own code.
        weight: of the class term.
        box: the box term; smooth L1 with beta 1 unless given.
    """

    activation = "softmax"
    requires = frozenset({"logits", "boxes"})
    trains = frozenset({"logits", "boxes"})

    def __init__(
        self, *, negatives: float = 3.0, weight: float = 1.0, box: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.negatives, self.weight, self.box = negatives, weight, box or SmoothL1()

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Terms `class` and `box`, both over the number of positives."""
        labels, background = assigned.labels, output.logits.shape[-1] - 1
        targets = torch.where(labels >= 0, labels, background)
        losses = F.cross_entropy(output.logits.transpose(1, 2), targets, reduction="none")  # [B, A]
        positive = labels >= 0
        chosen = positive | self.hard(losses.detach(), labels)
        total = (losses * chosen).sum() / positive.sum().clamp(min=1)
        return {"class": self.weight * total, "box": self.box(output, assigned)}

    def hard(self, losses: Tensor, labels: Tensor) -> Tensor:
        """Mask [B, A]: each picture's background slots of highest loss, `negatives` a positive."""
        losses = losses.masked_fill(labels != BACKGROUND, -1)
        rank = losses.argsort(1, descending=True).argsort(1)  # [B, A]
        wanted = self.negatives * (labels >= 0).sum(1, keepdim=True)
        return (rank < wanted) & (labels == BACKGROUND)
