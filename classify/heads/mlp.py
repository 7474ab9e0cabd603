"""The fully connected layers of AlexNet, VGG and MobileNet v3."""

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from classify.heads.classification import ClassificationHead, linear
from engine.config.ranges import Channels, Classes, Count, Grid, Length, PartialShare
from engine.errors import UserError

ACTIVATIONS = {"relu": nn.ReLU, "hardswish": nn.Hardswish}


class MLP(ClassificationHead):
    """Average pooling to a grid, hidden layers with dropout, a linear layer.

    Args:
        grid: side of the grid: 7 in VGG, 6 in AlexNet, 1 pools globally.
        hidden: widths of the hidden layers.
        act: relu or hardswish.
        dropout: share dropped in training.
        dropout_first: before each hidden layer (AlexNet), not behind it (VGG).
        top: classes an image in predictions.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        num_classes: Classes,
        activation: str,
        grid: Grid = 7,
        hidden: Annotated[Sequence[Channels], Length(0, 16)] = (4096, 4096),
        act: str = "relu",
        dropout: PartialShare = 0.5,
        dropout_first: bool = False,
        top: Count = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, activation=activation, top=top)
        if act not in ACTIVATIONS:
            raise UserError(f"head.act={act}: expected one of {', '.join(ACTIVATIONS)}")
        self.pool = nn.AdaptiveAvgPool2d(grid)
        width, layers = channels[-1] * grid**2, []
        for wide in hidden:
            block = [nn.Linear(width, wide), ACTIVATIONS[act]()]
            drop = nn.Dropout(dropout)
            layers += [drop, *block] if dropout_first else [*block, drop]
            width = wide
        self.layers = nn.Sequential(*layers, linear(width, num_classes))

    def classify(self, features: list[Tensor]) -> Tensor:
        """[B, K]."""
        return self.layers(self.pool(features[-1]).flatten(1))
