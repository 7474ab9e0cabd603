"""GoogLeNet's classifiers (arXiv 1409.4842, 5): one on the last map, others on earlier ones.

torchvision's version: batch normalisation in the 1x1 convolution, dropout .2 before the last layer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from classify.heads.classification import ClassificationHead, linear
from engine.config.ranges import Classes, Count, Index, NonNegative, PartialShare
from engine.errors import UserError
from engine.structures import Assigned, Objects, Output


def _classifier(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(4),
        nn.Conv2d(width, 128, 1, bias=False),
        nn.BatchNorm2d(128, eps=0.001),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(2048, 1024),
        nn.ReLU(inplace=True),
        nn.Dropout(0.7),
        linear(1024, outputs),
    )


class Auxiliary(ClassificationHead):
    """A linear classifier, and in training auxiliary ones in slots of their own.

    Args:
        maps: indices of the maps with an auxiliary classifier.
        weight: of each auxiliary loss beside the main one.
        dropout: before the main linear layer.
        top: classes an image in predictions.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        num_classes: Classes,
        activation: str,
        maps: Sequence[Index] = (2, 3),
        weight: NonNegative = 0.3,
        dropout: PartialShare = 0.2,
        top: Count = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, activation=activation, top=top)
        if any(not 0 <= index < len(channels) for index in maps):
            raise UserError(
                f"head.maps={list(maps)}: this backbone has maps 0 to {len(channels) - 1}; "
                "backbone=googlenet has those of the paper"
            )
        self.maps, self.weight = maps, weight
        # In this order, as in torchvision's file.
        self.auxiliary = nn.ModuleList(_classifier(channels[i], num_classes) for i in maps)
        self.dropout = nn.Dropout(dropout)
        self.linear = linear(channels[-1], num_classes)

    def classify(self, features: list[Tensor]) -> Tensor:
        """[B, 1 + n, K] in training, else [B, K]."""
        logits = self.linear(self.dropout(features[-1].mean((2, 3))))
        if not self.training:
            return logits
        others = [f(features[i]) for i, f in zip(self.maps, self.auxiliary, strict=True)]
        return torch.stack([logits, *others], 1)

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """Every slot answers for the image's label, the auxiliary ones at their weight."""
        slots = output.logits.shape[1]
        weight = output.logits.new_full((slots,), self.weight)
        weight[:1] = 1.0  # weight[0] would be copied from the CPU
        # Losses average over slots, the paper adds the classifiers' losses.
        weight = (slots * weight).expand(len(output.logits), slots)  # [B, S]
        return super().assign(output, objects)._replace(weight=weight)
