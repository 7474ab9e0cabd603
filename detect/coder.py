"""Box coders: between boxes and the numbers a network learns. Both ways, elementwise, any shape."""

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LOG_SIZE = 4.135  # log(1000 / 16): a wild code must not overflow exp


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


class CentreSize:
    """Offset in anchor sizes, log of the ratio of sizes, over variances (arXiv 1512.02325, 2.2)."""

    def __init__(self, *, variances: Sequence[float] = (0.1, 0.2)) -> None:
        self.centre, self.size = variances

    def encode(self, boxes: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """Boxes [.., 4] relative to anchors [.., 4]."""
        (c, s), (anchor_c, anchor_s) = _centre_size(boxes), _centre_size(slots)
        offset = (c - anchor_c) / anchor_s / self.centre
        scale = torch.log(s.clamp(min=1e-3) / anchor_s) / self.size
        return torch.cat([offset, scale], -1)

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """The inverse of `encode`."""
        anchor_c, anchor_s = _centre_size(slots)
        c = anchor_c + code[..., :2] * self.centre * anchor_s
        s = anchor_s * torch.exp((code[..., 2:] * self.size).clamp(max=MAX_LOG_SIZE))
        return torch.cat([c - s / 2, c + s / 2], -1)


class Cell:
    """A centre that cannot leave its cell, by a sigmoid, and log of the ratio of sizes.

    arXiv 1804.02767, 2.1: bx = sigmoid(tx) + cx, bw = pw * exp(tw).
    """

    def encode(self, boxes: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """Boxes [.., 4] relative to anchors [.., 4] in cells [.., 2] (width, height)."""
        (c, s), (anchor_c, anchor_s) = _centre_size(boxes), _centre_size(slots)
        inside = (c - anchor_c) / cells + 0.5
        offset = torch.logit(inside, eps=1e-6)  # eps: a centre exactly on the border
        return torch.cat([offset, torch.log(s.clamp(min=1e-3) / anchor_s)], -1)

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """The inverse of `encode`."""
        anchor_c, anchor_s = _centre_size(slots)
        c = anchor_c + (torch.sigmoid(code[..., :2]) - 0.5) * cells
        s = anchor_s * torch.exp(code[..., 2:].clamp(max=MAX_LOG_SIZE))
        return torch.cat([c - s / 2, c + s / 2], -1)
