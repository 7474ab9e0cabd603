"""Box coders: boxes to regression targets (`encode`) and predictions to boxes (`decode`).

Boxes are [.., 4], with any leading shape; slots are anchors or cells.
"""

from typing import Annotated

import torch
from torch import Tensor

from engine.config.ranges import Range
from engine.errors import UserError

Variance = Annotated[float, Range(0.001, 100)]

MAX_LOG_SIZE = 4.135  # log(1000 / 16): a large prediction must not overflow exp
EPS = 1e-6  # distance kept from the ends of sigmoid and tanh, where their inverses are infinite


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (x, y) and (width, height), [.., 2] each."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


class CentreSize:
    """SSD's and Faster R-CNN's code (arXiv 1512.02325, 2.2).

    The centre's offset in anchor sizes and the log of the size ratio, each divided by its variance.
    """

    def __init__(self, *, variances: tuple[Variance, Variance] = (0.1, 0.2)) -> None:
        if len(variances) != 2 or min(variances) <= 0:
            raise UserError(f"head.coder.variances={list(variances)}: expected two numbers above 0")
        self.centre_variance, self.size_variance = variances

    def encode(self, boxes: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """Boxes [.., 4] relative to anchors [.., 4]."""
        (c, s), (anchor_c, anchor_s) = _centre_size(boxes), _centre_size(slots)
        offset = (c - anchor_c) / anchor_s / self.centre_variance
        scale = torch.log(s.clamp(min=1e-3) / anchor_s) / self.size_variance
        return torch.cat([offset, scale], -1)

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """The inverse of `encode`."""
        anchor_c, anchor_s = _centre_size(slots)
        c = anchor_c + code[..., :2] * self.centre_variance * anchor_s
        s = anchor_s * torch.exp((code[..., 2:] * self.size_variance).clamp(max=MAX_LOG_SIZE))
        return torch.cat([c - s / 2, c + s / 2], -1)


class YOLOCoder:
    """YOLOv2 and v3: a sigmoid keeps the centre in its cell; log of the size ratio.

    arXiv 1804.02767, 2.1: bx = sigmoid(tx) + cx, bw = pw * exp(tw).
    """

    def encode(self, boxes: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """Boxes [.., 4] relative to anchors [.., 4] in cells [.., 2] (width, height)."""
        (c, s), (anchor_c, anchor_s) = _centre_size(boxes), _centre_size(slots)
        in_cell = (c - anchor_c) / cells + 0.5  # 0..1
        offset = torch.logit(in_cell, eps=EPS)  # eps: a centre exactly on the border
        return torch.cat([offset, torch.log(s.clamp(min=1e-3) / anchor_s)], -1)

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """The inverse of `encode`."""
        anchor_c, anchor_s = _centre_size(slots)
        c = anchor_c + (torch.sigmoid(code[..., :2]) - 0.5) * cells
        s = anchor_s * torch.exp(code[..., 2:].clamp(max=MAX_LOG_SIZE))
        return torch.cat([c - s / 2, c + s / 2], -1)


class TanhCoder:
    """tanh of every output: the centre moves half a cell at most, the size is 0.5 to 1.5 anchors.

    From the single-shot detector of fast.ai's lesson 9 (2018). A box outside that range is encoded
    as the nearest one inside.
    """

    def encode(self, boxes: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """Boxes [.., 4] relative to anchors [.., 4] in cells [.., 2] (width, height)."""
        (c, s), (anchor_c, anchor_s) = _centre_size(boxes), _centre_size(slots)
        relative = torch.cat([(c - anchor_c) / cells, s / anchor_s - 1], -1) * 2  # -1..1
        return torch.atanh(relative.clamp(EPS - 1, 1 - EPS))

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """The inverse of `encode` for boxes in range."""
        anchor_c, anchor_s = _centre_size(slots)
        offset, growth = (torch.tanh(code) / 2).split(2, -1)
        c, s = anchor_c + offset * cells, anchor_s * (1 + growth)
        return torch.cat([c - s / 2, c + s / 2], -1)


class SigmoidCoder:
    """Corners relative to the slot's sides, by a sigmoid, so that no box leaves its slot."""

    def encode(self, boxes: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """Boxes [.., 4] relative to slots [.., 4]."""
        low, sides = slots[..., :2], slots[..., 2:] - slots[..., :2]
        relative = (boxes.unflatten(-1, (2, 2)) - low[..., None, :]) / sides[..., None, :]  # 0..1
        return torch.logit(relative.flatten(-2), eps=EPS)  # eps: a corner on the border

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """The inverse of `encode`; crossed corners are put in order."""
        low, sides = slots[..., :2], slots[..., 2:] - slots[..., :2]
        a, b = (low + relative * sides for relative in code.sigmoid().split(2, -1))
        return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], -1)


class SqrtCoder:
    """YOLOv1: the centre relative to its cell, square roots of the sizes (arXiv 1506.02640, 2).

    Sizes are fractions of the image. An error in the root weighs more in a small box than in a
    large one. The sign of a predicted root does not matter.

    Args:
        grid: cells per side of the image.
    """

    def __init__(self, *, grid: int) -> None:
        self.grid = grid

    def encode(self, boxes: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """Boxes [.., 4] relative to their cells: `slots` [.., 4] of sides `cells` [.., 2]."""
        offset = ((boxes[..., :2] + boxes[..., 2:]) / 2 - slots[..., :2]) / cells
        size = (boxes[..., 2:] - boxes[..., :2]) / (cells * self.grid)  # of the image
        return torch.cat([offset, size.clamp(min=0).sqrt()], -1)

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """The inverse of `encode`."""
        centre = slots[..., :2] + code[..., :2] * cells
        half = code[..., 2:].square() * cells * (self.grid / 2)
        return torch.cat([centre - half, centre + half], -1)
