"""Heads with one slot: the whole picture."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from engine.structures import BACKGROUND, Assigned, Objects, Output


class Linear(nn.Module):
    """Global average pooling of the coarsest map and one linear layer.

    Args:
        dropout: share of the pooled features dropped in training.
        top: `decode` returns so many best classes a picture.
    """

    says = frozenset({"logits"})

    def __init__(
        self,
        *,
        channels: Sequence[int],
        num_classes: int,
        activation: str,
        dropout: float = 0.0,
        top: int = 5,
    ) -> None:
        super().__init__()
        self.activation, self.top = activation, min(top, num_classes)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels[-1], num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """One slot a picture."""
        pooled = features[-1].mean((2, 3))  # [B, D]
        logits = self.linear(self.dropout(pooled))[:, None]  # [B, 1, K]
        height, width = image_size
        return Output(logits, slots=logits.new_tensor([[0.0, 0.0, width, height]]))

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """The label of the picture's one object."""
        labels = objects.labels.new_full((len(output.logits),), BACKGROUND)
        return Assigned(labels.index_copy(0, objects.image, objects.labels)[:, None])

    def decode(self, output: Output) -> Objects:
        """The best few classes of each picture, best first, as objects that fill it."""
        logits = output.logits[:, 0]  # [B, K]
        scores = logits.softmax(-1) if self.activation == "softmax" else logits.sigmoid()
        best, labels = scores.topk(self.top)  # [B, top]
        image = torch.arange(len(logits), device=logits.device)[:, None].expand_as(labels)
        boxes = output.slots.expand(labels.numel(), 4)
        return Objects(boxes, labels.flatten(), image.flatten(), best.flatten())
