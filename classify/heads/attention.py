"""Pooling by attention: an image is the weighted mean of its cells; the weights can be drawn."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classify.heads.classification import ClassificationHead, linear
from engine.config.ranges import Classes, Count, Range
from engine.errors import UserError

KINDS = ("soft", "local", "hard")


class Attention(ClassificationHead):
    """A score a cell, weights from the scores, the mean under the weights, a linear layer.

    After a forward pass `attention` holds the weights [B, h, w]; they sum to 1 in each image.

    Args:
        kind: soft looks everywhere; local around a centre that it predicts (arXiv 1508.04025, 3.2,
            local-p); hard at one cell, drawn in training with a straight-through gradient
            (arXiv 1611.01144), the best one else.
        window: of local, half its width as a share of the map's side; the Gaussian's deviation is
            half of that, as in the paper.
        temperature: of the softmax; lower is sharper.
        top: classes an image in predictions.
    """

    attention: Tensor | None = None

    def __init__(
        self,
        *,
        channels: Sequence[int],
        num_classes: Classes,
        activation: str,
        kind: str = "soft",
        window: Annotated[float, Range(0.001, 10)] = 0.25,
        temperature: Annotated[float, Range(0.001, 1000)] = 1.0,
        top: Count = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, activation=activation, top=top)
        if kind not in KINDS:
            raise UserError(f"head.kind={kind}: expected one of {', '.join(KINDS)}")
        if not temperature > 0 or not window > 0:
            raise UserError(f"head: temperature={temperature}, window={window}: expected above 0")
        self.kind, self.window, self.temperature = kind, window, temperature
        self.score = nn.Conv2d(channels[-1], 1, 1, bias=False)  # a softmax is blind to shifts
        self.centre = nn.Linear(channels[-1], 2) if kind == "local" else None
        self.linear = linear(channels[-1], num_classes)

    def classify(self, features: list[Tensor]) -> Tensor:
        """[B, K]."""
        x = features[-1]  # [B, D, h, w]
        weights = self.weigh(x)  # [B, h * w]
        self.attention = weights.detach().view(x.shape[0], *x.shape[2:])
        return self.linear((x.flatten(2) * weights[:, None]).sum(-1))

    def weigh(self, x: Tensor) -> Tensor:
        """Weights of the cells [B, h * w] of a map [B, D, h, w]."""
        scores = self.score(x).flatten(1).float()  # [B, P]
        if self.kind == "hard" and self.training:
            return F.gumbel_softmax(scores, tau=self.temperature, hard=True)
        if self.kind == "hard":
            return F.one_hot(scores.argmax(1), scores.shape[1]).float()
        if self.centre is not None:
            scores = scores + self.temperature * self._nearness(x)
        return (scores / self.temperature).softmax(1)

    def _nearness(self, x: Tensor) -> Tensor:
        """Log of a Gaussian around the predicted centre [B, P]; nothing beyond the window."""
        assert self.centre is not None
        rows, columns = x.shape[2:]
        y = (torch.arange(rows, device=x.device) + 0.5) / rows
        x_ = (torch.arange(columns, device=x.device) + 0.5) / columns
        cells = torch.cartesian_prod(y, x_)  # [P, yx] in shares of the map
        centre = self.centre(x.mean((2, 3))).float().sigmoid()  # [B, yx]
        away = (cells - centre[:, None]).square()  # [B, P, yx]
        nearness = -2 * away.sum(-1) / self.window**2
        # One cell always stays: the nearest, where the window is smaller than a cell.
        beyond = (away > self.window**2).any(-1) & (nearness < nearness.amax(1, keepdim=True))
        return nearness.masked_fill(beyond, float("-inf"))
