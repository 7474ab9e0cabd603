"""Losses of the positive slots' box codes."""

import torch.nn.functional as F
from torch import Tensor, nn

from engine.structures import Assigned, Output


class SmoothL1(nn.Module):
    """Huber's loss over `beta` (arXiv 1504.08083, 2.3), summed over a box, averaged over positives.

    Args:
        beta: where the square turns into a line, in units of the code.
        weight: of the term.
    """

    def __init__(self, *, beta: float = 1.0, weight: float = 1.0) -> None:
        super().__init__()
        self.beta, self.weight = beta, weight

    def forward(self, output: Output, assigned: Assigned) -> Tensor:
        """A scalar; 0 where no slot is positive."""
        positive = assigned.labels >= 0  # [B, A]
        losses = F.smooth_l1_loss(output.boxes, assigned.boxes, beta=self.beta, reduction="none")
        weight = 1.0 if assigned.weight is None else assigned.weight
        total = (losses.sum(-1) * positive * weight).sum()
        return self.weight * total / positive.sum().clamp(min=1)
