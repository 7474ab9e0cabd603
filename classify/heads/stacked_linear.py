"""A new linear layer on the outputs of a pretrained classifier."""

from collections.abc import Sequence

from torch import Tensor, nn

from classify.heads.classification import ClassificationHead, linear
from engine.config.ranges import Channels, Classes, Count


class StackedLinear(ClassificationHead):
    """The pretrained linear layer on the mean of the coarsest map, then a new one.

    Args:
        inner: outputs of the pretrained classifier.
        top: classes an image in predictions.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        num_classes: Classes,
        activation: str,
        inner: Channels = 1000,
        top: Count = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, activation=activation, top=top)
        self.linear = nn.Linear(channels[-1], inner)
        self.extra = linear(inner, num_classes)

    def classify(self, features: list[Tensor]) -> Tensor:
        """[B, K]."""
        return self.extra(self.linear(features[-1].mean((2, 3))))

    def groups(self) -> list[list[nn.Module]]:
        """By depth: the pretrained classifier, the new layer."""
        return [[self.linear], [self.extra]]
