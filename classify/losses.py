"""Losses over slots. With one slot an image they train a classifier, with many a detector.

A loss of the boxes is a part of its own (`box`), so that every class loss goes with every box loss.
Terms are summed over slots, and divided by the number of slots that have an object, at least 1.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classify.focal import focal_sum
from engine.config.ranges import NonNegative, PartialShare, Range, Share
from engine.distributed.collectives import mean_count
from engine.errors import UserError
from engine.structures import BACKGROUND, IGNORE, Assigned, Output


def one_hot(labels: Tensor, num_logits: int) -> Tensor:
    """Labels -> targets [B, A, C]; all zero where a slot has no class. Multi-hot labels stay."""
    if labels.ndim == 3:
        return labels.clamp(min=0).float()
    targets = torch.zeros(*labels.shape, num_logits, device=labels.device)
    return targets.scatter_(-1, labels.clamp(min=0)[..., None], (labels >= 0).float()[..., None])


def num_positives(labels: Tensor) -> Tensor:
    """The number of positive slots, at least 1; of multi-hot labels, of all not ignored."""
    slots = (labels >= 0) if labels.ndim == 2 else (labels != IGNORE).any(-1)
    return mean_count(slots.sum())


def per_image_weights(labels: Tensor) -> Tensor:
    """Weights [B, A] that turn the batch's average into the mean of its images' averages."""
    each = (labels >= 0).sum(1, keepdim=True).clamp(min=1)  # [B, 1]
    return (num_positives(labels) / (len(labels) * each)).expand(labels.shape)


def slot_weight(output: Output, assigned: Assigned) -> Tensor | float:
    """The weight of a slot's class term: 1 where the head predicts boxes, whose terms it weighs."""
    return 1.0 if assigned.weight is None or output.boxes is not None else assigned.weight


def _class_weights(module: nn.Module, weights: Sequence[float] | None) -> None:
    if weights is not None and (not weights or min(weights) < 0 or max(weights) == 0):
        raise UserError(
            f"loss.class_weights={list(weights)}: expected numbers of 0 or more, one a class, not "
            "all 0"
        )
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float32)
    module.register_buffer("class_weights", tensor, persistent=False)


def _check_length(weights: Tensor | None, logits: Tensor) -> None:
    if weights is not None and len(weights) != logits.shape[-1]:
        raise UserError(
            f"loss.class_weights: got {len(weights)} numbers for {logits.shape[-1]} classes"
        )


class CrossEntropy(nn.Module):
    """Softmax cross-entropy, averaged over slots that have a label, or shares of several labels.

    Args:
        smoothing: label smoothing (arXiv 1512.00567, 7).
        class_weights: a factor for each class; the sum is still divided by the number of slots.
        entropy: weight of the confidence penalty, the predictions' negative entropy
            (arXiv 1701.06548).
    """

    activation = "softmax"
    requires = frozenset({"logits"})
    trains = frozenset({"logits"})
    takes_shares = True
    class_weights: Tensor | None

    def __init__(
        self,
        *,
        smoothing: PartialShare = 0.0,
        class_weights: Sequence[NonNegative] | None = None,
        entropy: NonNegative = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise UserError(f"loss.smoothing={smoothing}: expected a share, 0 <= x < 1")
        self.smoothing, self.entropy = smoothing, entropy
        _class_weights(self, class_weights)

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Term `class`, and `entropy` where it is weighted."""
        logits, labels = output.logits, assigned.labels  # [B, A, C], [B, A]
        _check_length(self.class_weights, logits)
        shares = labels.ndim == 3
        targets = labels.clamp(min=0 if shares else BACKGROUND).flatten(0, 1)
        losses = F.cross_entropy(
            logits.flatten(0, 1),
            targets,
            self.class_weights,
            ignore_index=BACKGROUND,
            label_smoothing=self.smoothing,
            reduction="none",
        ).view(logits.shape[:2])
        known = (labels > 0).any(-1) if shares else labels >= 0  # [B, A]
        weight, count = slot_weight(output, assigned) * known, mean_count(known.sum())
        terms = {"class": (losses * weight).sum() / count}
        if self.entropy:
            negative = (logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
            terms["entropy"] = self.entropy * (negative * weight).sum() / count
        return terms


class MSE(nn.Module):
    """Squared error of the probabilities, summed over classes (Brier, 1950).

    Args:
        activation: softmax or sigmoid, from logits to probabilities.
    """

    requires = frozenset({"logits"})
    trains = frozenset({"logits"})
    takes_shares = True

    def __init__(self, *, activation: str = "softmax") -> None:
        super().__init__()
        if activation not in ("softmax", "sigmoid"):
            raise UserError(f"loss.activation={activation}: expected softmax or sigmoid")
        self.activation = activation

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """One term, `class`."""
        logits, labels = output.logits, assigned.labels
        scores = logits.softmax(-1) if self.activation == "softmax" else logits.sigmoid()
        errors = (scores - one_hot(labels, logits.shape[-1])).square()  # [B, A, C]
        counted = self._counted(labels)
        total = ((errors * counted).sum(-1) * slot_weight(output, assigned)).sum()
        return {"class": total / mean_count(counted.any(-1).sum())}

    def _counted(self, labels: Tensor) -> Tensor:
        """Mask [B, A, C or 1]; of several labels under a softmax, the slots that have one."""
        if labels.ndim == 2:
            return (labels >= 0)[..., None]
        return (
            (labels > 0).any(-1, keepdim=True)
            if self.activation == "softmax"
            else (labels != IGNORE)
        )


class BCE(nn.Module):
    """Sigmoid binary cross-entropy of every class; no background logit, a slot may have no class.

    Args:
        weight: of the class term.
        class_weights: a factor for each class.
        box: the box term, for heads that predict boxes.
        per_image: where the head predicts boxes, divide the sum of each image by its number of
            positive slots, and average over images; else divide by the positives of the batch.
    """

    activation = "sigmoid"
    requires = frozenset({"logits"})
    takes_shares = True
    class_weights: Tensor | None

    def __init__(
        self,
        *,
        weight: NonNegative = 1.0,
        class_weights: Sequence[NonNegative] | None = None,
        box: nn.Module | None = None,
        per_image: bool = False,
    ) -> None:
        super().__init__()
        self.weight, self.box, self.per_image = weight, box, per_image
        self.trains = frozenset({"logits", "boxes"} if box else {"logits"})
        _class_weights(self, class_weights)

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Terms `class` and, where the head predicts boxes, `box`."""
        logits, labels = output.logits, assigned.labels
        _check_length(self.class_weights, logits)
        weight = slot_weight(output, assigned)
        if self.per_image and output.boxes is not None:
            weight = per_image_weights(labels)
            slot = 1.0 if assigned.weight is None else assigned.weight
            assigned = assigned._replace(weight=weight * slot)
        total = self.total(logits, labels, weight)
        terms = {"class": self.weight * total / num_positives(labels)}
        if self.box is not None and output.boxes is not None:
            terms["box"] = self.box(output, assigned)
        return terms

    def total(self, logits: Tensor, labels: Tensor, weight: Tensor | float) -> Tensor:
        """The sum over slots of their weight times the loss of their classes; a scalar."""
        counted = labels != IGNORE
        losses = self.slots(logits, one_hot(labels, logits.shape[-1]))  # [B, A, C]
        if self.class_weights is not None:
            losses = losses * self.class_weights
        many = labels.ndim == 3
        losses = (losses * counted).sum(-1) if many else losses.sum(-1) * counted  # [B, A]
        return (losses * weight).sum()

    def slots(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The unreduced loss [B, A, C]."""
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


class Focal(BCE):
    """Focal loss (arXiv 1708.02002, 3): easy slots count less, by (1 - p_t) ** gamma.

    Args:
        gamma: 0 is plain BCE.
        alpha: weight of the positives, 1 - alpha of the negatives; None for neither.
        weight, class_weights, box, per_image: as in BCE.
    """

    takes_shares = False

    def __init__(
        self,
        *,
        gamma: Annotated[float, Range(0, 100)] = 2.0,
        alpha: Share | None = 0.25,
        weight: NonNegative = 1.0,
        class_weights: Sequence[NonNegative] | None = None,
        box: nn.Module | None = None,
        per_image: bool = False,
    ) -> None:
        super().__init__(weight=weight, class_weights=class_weights, box=box, per_image=per_image)
        if gamma < 0 or (alpha is not None and not 0 <= alpha <= 1):
            raise UserError(f"loss: gamma={gamma}, alpha={alpha}: expected >= 0, a share or null")
        self.gamma, self.alpha = gamma, alpha

    def total(self, logits: Tensor, labels: Tensor, weight: Tensor | float) -> Tensor:
        """The same; of one label a slot by `classify.focal`."""
        if labels.ndim == 3:
            return super().total(logits, labels, weight)
        weights = (labels != IGNORE) * torch.as_tensor(weight, dtype=logits.dtype)
        return focal_sum(
            logits, labels, weights, self.class_weights, gamma=self.gamma, alpha=self.alpha
        )

    def slots(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The unreduced loss [B, A, C]."""
        miss = logits * (1 - 2 * targets)  # the logit of 1 - p_t
        cost = F.softplus(miss)  # -log(p_t), so miss - cost is log(1 - p_t)
        losses = cost * (self.gamma * (miss - cost)).exp()
        if self.alpha is None:
            return losses
        return losses * (1 - self.alpha + (2 * self.alpha - 1) * targets)
