"""Pooling of the coarsest map and one linear layer."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from classify.heads.classification import ClassificationHead, linear
from engine.config.ranges import Classes, Count, PartialShare
from engine.errors import UserError, did_you_mean


def average(x: Tensor) -> Tensor:
    """[B, D, h, w] -> [B, D], the mean of each channel."""
    return x.mean((2, 3))


def maximum(x: Tensor) -> Tensor:
    """[B, D, h, w] -> [B, D], the maximum of each channel."""
    return x.amax((2, 3))


def both(x: Tensor) -> Tensor:
    """[B, D, h, w] -> [B, 2 D], maxima, then means."""
    return torch.cat([maximum(x), average(x)], 1)


def stochastic(x: Tensor, training: bool) -> Tensor:
    """[B, D, h, w] -> [B, D], a cell drawn with probability by its activation (arXiv 1301.3557).

    Outside training the mean under these probabilities. Activations below zero count as zero; where
    a channel has none above it, all cells are alike.
    """
    cells = x.flatten(2).relu()  # [B, D, P]
    shares = cells + torch.finfo(cells.dtype).tiny
    shares = shares / shares.sum(-1, keepdim=True)
    if not training:
        return (shares * cells).sum(-1)
    drawn = torch.multinomial(shares.detach().flatten(0, 1).float(), 1).view(*x.shape[:2], 1)
    return cells.gather(2, drawn).squeeze(-1)


POOLING: dict[str, Callable[[Tensor], Tensor]] = {"avg": average, "max": maximum, "both": both}


class Linear(ClassificationHead):
    """Pooling and a linear layer.

    Args:
        pooling: avg, max, both (concatenated) or stochastic.
        dropout: share of the pooled features dropped in training.
        top: classes an image in predictions.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        num_classes: Classes,
        activation: str,
        pooling: str = "avg",
        dropout: PartialShare = 0.0,
        top: Count = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, activation=activation, top=top)
        known = (*POOLING, "stochastic")
        if pooling not in known:
            hint = did_you_mean(pooling, known)
            raise UserError(f"head.pooling={pooling}: expected one of {', '.join(known)}{hint}")
        self.pooling, self.dropout = pooling, nn.Dropout(dropout)
        self.linear = linear(channels[-1] * (2 if pooling == "both" else 1), num_classes)

    def pool(self, features: list[Tensor]) -> Tensor:
        """The coarsest map as one vector an image [B, D]."""
        if self.pooling == "stochastic":
            return stochastic(features[-1], self.training)
        return POOLING[self.pooling](features[-1])

    def classify(self, features: list[Tensor]) -> Tensor:
        """[B, K]."""
        return self.linear(self.dropout(self.pool(features)))
