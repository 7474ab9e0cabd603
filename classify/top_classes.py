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

    def __call__(self, boxes: Tensor, scores: Tensor) -> Objects:
        """The objects of boxes [B, 1, 4] and scores [B, 1, K]."""
        best, labels = scores[:, 0].sort(descending=True, stable=True)  # topk orders equals anyhow
        return self._found(boxes, best[:, : self.top], labels[:, : self.top]).cpu().objects()

    def fixed(self, boxes: Tensor, scores: Tensor) -> Fixed:
        """The same for an exported file, whose format may have no stable sort."""
        return self._found(boxes, *scores[:, 0].topk(min(self.top, scores.shape[2]), 1))

    def _found(self, boxes: Tensor, best: Tensor, labels: Tensor) -> Fixed:
        """The objects of an image's one box [B, 1, 4], and their scores and labels [B, N]."""
        labels = labels if self.named else torch.full_like(labels, BACKGROUND)
        return Fixed(boxes.expand(-1, best.shape[1], -1), best, labels)
