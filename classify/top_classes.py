"""From class scores of whole images to objects: the best few classes of each."""

import torch
from torch import Tensor

from engine.config.ranges import Count
from engine.structures import BACKGROUND, Fixed, Objects


class TopClasses:
    """The best classes of an image, best first, all with its one box.

    Of equal scores the lower class comes first.

    Args:
        top: classes an image, at most all.
        named: False where a network predicts no classes: their label is then BACKGROUND.
    """

    def __init__(self, *, top: Count = 100, named: bool = True) -> None:
        self.top, self.named = top, named

    def fixed(self, boxes: Tensor, scores: Tensor) -> Fixed:
        """The objects of boxes [B, 1, 4] and scores [B, 1, K]; as many in every image."""
        best, labels = scores[:, 0].sort(descending=True, stable=True)  # topk orders equals anyhow
        best, labels = best[:, : self.top], labels[:, : self.top]  # [B, N]
        if not self.named:
            labels = torch.full_like(labels, BACKGROUND)
        return Fixed(boxes.expand(-1, best.shape[1], -1), best, labels)

    def __call__(self, boxes: Tensor, scores: Tensor) -> Objects:
        """The same as objects."""
        return self.fixed(boxes, scores).objects()
