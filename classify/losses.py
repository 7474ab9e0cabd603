"""Losses over slots. With one slot a picture they train a classifier, with many a detector.

A loss of the boxes is a part of its own (`box`), so that every class loss goes with every box loss.
Terms are summed over slots and divided by the number of positive slots, at least 1.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from engine.structures import BACKGROUND, IGNORE, Assigned, Output


def one_hot(labels: Tensor, num_logits: int) -> Tensor:
    """[B, A] labels -> [B, A, C] targets; all zero where a slot has no class."""
    return F.one_hot(labels.clamp(min=-1) + 1, num_logits + 1)[..., 1:].float()


class CrossEntropy(nn.Module):
    """Softmax cross-entropy, averaged over pictures with one slot each.

    Args:
        smoothing: label smoothing (arXiv 1512.00567, 7).
    """

    activation = "softmax"
    requires = frozenset({"logits"})
    trains = frozenset({"logits"})

    def __init__(self, *, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """One term, `class`."""
        logits, labels = output.logits.flatten(0, 1), assigned.labels.flatten()
        losses = F.cross_entropy(
            logits,
            labels.clamp(min=BACKGROUND),
            ignore_index=BACKGROUND,
            label_smoothing=self.smoothing,
            reduction="sum",
        )
        return {"class": losses / (labels >= 0).sum().clamp(min=1)}


class BCE(nn.Module):
    """Sigmoid binary cross-entropy of every class: no background logit, no class is a class.

    Args:
        weight: of the class term.
        box: the box term, for heads that say boxes.
    """

    activation = "sigmoid"
    requires = frozenset({"logits"})

    def __init__(self, *, weight: float = 1.0, box: Any = None) -> None:
        super().__init__()
        self.weight, self.box = weight, box
        self.trains = frozenset({"logits", "boxes"} if box else {"logits"})

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Terms `class` and, where the head says boxes, `box`."""
        counted = (assigned.labels != IGNORE)[..., None]  # [B, A, 1]
        positives = (assigned.labels >= 0).sum().clamp(min=1)
        targets = one_hot(assigned.labels, output.logits.shape[-1])
        losses = self.slots(output.logits, targets) * counted
        terms = {"class": self.weight * losses.sum() / positives}
        if self.box is not None and output.boxes is not None:
            terms["box"] = self.box(output, assigned)
        return terms

    def slots(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The unreduced loss [B, A, C]."""
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


class Focal(BCE):
    """Focal loss (arXiv 1708.02002, 3): easy slots count less, by (1 - p_t) ** gamma.

    Args:
        gamma: 0 is plain BCE.
        alpha: weight of the positives, 1 - alpha of the negatives; None for neither.
        weight, box: as in BCE.
    """

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        weight: float = 1.0,
        box: Any = None,
    ) -> None:
        super().__init__(weight=weight, box=box)
        self.gamma, self.alpha = gamma, alpha

    def slots(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The unreduced loss [B, A, C]."""
        log_miss = F.logsigmoid(logits * (1 - 2 * targets))  # log(1 - p_t)
        losses = super().slots(logits, targets) * (self.gamma * log_miss).exp()
        if self.alpha is None:
            return losses
        return losses * (1 - self.alpha + (2 * self.alpha - 1) * targets)
