"""SSD's loss (arXiv 1512.02325, 2.2): softmax with a background, hard negatives, smooth L1."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detect.losses.box import SmoothL1
from engine.config.ranges import NonNegative
from engine.distributed.collectives import mean_count
from engine.structures import BACKGROUND, Assigned, Output


class Multibox(nn.Module):
    """Cross-entropy of the positives and of each image's hard negatives, and the box term.

    Args:
        negatives: number of negatives per positive, those of highest loss. An image without a
            positive gives none, as in the authors' code.
        weight: of the class term.
        box: the box term; smooth L1 with beta 1 unless given.
    """

    activation = "softmax"
    requires = frozenset({"logits", "boxes"})
    trains = frozenset({"logits", "boxes"})

    def __init__(
        self,
        *,
        negatives: NonNegative = 3.0,
        weight: NonNegative = 1.0,
        box: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.negatives, self.weight, self.box = negatives, weight, box or SmoothL1()

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Terms `class` and `box`, both divided by the number of positives."""
        labels, background = assigned.labels, output.logits.shape[-1] - 1
        targets = torch.where(labels >= 0, labels, background)
        losses = F.cross_entropy(output.logits.flatten(0, 1), targets.flatten(), reduction="none")
        losses = losses.view_as(labels)  # [B, A]
        positive = labels >= 0
        chosen = positive | self.hard_negatives(losses.detach(), labels)
        total = (losses * chosen).sum() / mean_count(positive.sum())
        return {"class": self.weight * total, "box": self.box(output, assigned)}

    def hard_negatives(self, losses: Tensor, labels: Tensor) -> Tensor:
        """Mask [B, A]: each image's negatives of highest loss, `negatives` per positive."""
        negative = labels == BACKGROUND
        count = (self.negatives * (labels >= 0).sum(1, keepdim=True)).ceil()
        return top_k_mask(losses.masked_fill(~negative, -1), count) & negative


def top_k_mask(values: Tensor, count: Tensor) -> Tensor:
    """Mask [B, A] of the `count` [B, 1] largest values >= 0 of each row, the first of ties.

    The least of them is found bit by bit, as floats >= 0 sort like their bits: on a CPU in a tenth
    of the time of sorting.
    """
    least = torch.zeros_like(count, dtype=torch.int32)
    at_least = torch.empty_like(values)  # 1 and 0; bool would take four times as long
    for bit in reversed(range(31)):
        higher = least + (1 << bit)
        torch.ge(values, higher.view(torch.float32), out=at_least)
        least = torch.where(at_least.sum(1, keepdim=True) >= count, higher, least)
    above, equal = values > least.view(torch.float32), values == least.view(torch.float32)
    remaining = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= remaining))
