"""How well one box and class an image fit the largest object (fast.ai's lesson 8)."""

from typing import ClassVar

import torch
from torch import Tensor

from detect.metrics.single_box import SingleBox
from engine.protocols import OutputFields
from engine.structures import BACKGROUND, Objects


class Single(SingleBox):
    """SingleBox's numbers, and how often the best scored class is the largest object's."""

    requires: ClassVar[OutputFields] = frozenset({"logits", "boxes"})

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.right = [torch.zeros(0, dtype=torch.bool)]  # [N] of each image

    def note(self, predicted: Objects, true: Objects, best: Tensor, there: Tensor) -> None:
        """Whether the class is right."""
        said = torch.cat([predicted.labels, torch.tensor([BACKGROUND])])[best]
        self.right.append(said == true.labels[there])

    def compute(self) -> dict[str, float]:
        """`iou` and `accuracy` in 0..1, `corner_error` in pixels."""
        right = torch.cat(self.right)
        return super().compute() | {"accuracy": float(right.sum()) / max(len(right), 1)}
