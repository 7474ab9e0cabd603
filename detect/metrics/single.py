"""Metrics of one box and class per image against the largest object (fast.ai's lesson 8)."""

from typing import ClassVar

import torch
from torch import Tensor

from detect.metrics.single_box import SingleBox
from engine.protocols import OutputFields
from engine.structures import BACKGROUND, Objects


class Single(SingleBox):
    """SingleBox's metrics, and the accuracy of the class of highest score."""

    requires: ClassVar[OutputFields] = frozenset({"logits", "boxes"})

    def reset(self) -> None:
        """Discard all images."""
        super().reset()
        self.right = [torch.zeros(0, dtype=torch.bool)]  # [N], is the class right

    def add(self, predicted: Objects, true: Objects, best: Tensor, largest: Tensor) -> None:
        """Add whether each class is right."""
        labels = torch.cat([predicted.labels, torch.tensor([BACKGROUND])])[best]
        self.right.append(labels == true.labels[largest])

    def compute(self) -> dict[str, float]:
        """`iou` and `accuracy` in 0..1, `corner_error` in pixels."""
        right = torch.cat(self.right)
        return super().compute() | {"accuracy": float(right.sum()) / max(len(right), 1)}
