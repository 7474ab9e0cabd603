"""Box coders: between boxes and the numbers a network learns. Both ways, elementwise, any shape."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.errors import UserError

MAX_LOG_SIZE = 4.135  # log(1000 / 16): a wild code must not overflow exp
EPS = 1e-6  # how near a code's sigmoid or tanh comes to its ends


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


class CentreSize:
    """Offset in anchor sizes, log of the ratio of sizes, over variances (arXiv 1512.02325, 2.2)."""

    def __init__(self, *, variances: Sequence[float] = (0.1, 0.2)) -> None:
        if len(variances) != 2 or min(variances) <= 0:
            raise UserError(f"head.coder.variances={list(variances)}: expected two above 0")
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


class YOLOCoder:
    """A centre that cannot leave its cell, by a sigmoid, and log of the ratio of sizes.

    arXiv 1804.02767, 2.1: bx = sigmoid(tx) + cx, bw = pw * exp(tw).
    """

    def encode(self, boxes: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """Boxes [.., 4] relative to anchors [.., 4] in cells [.., 2] (width, height)."""
        (c, s), (anchor_c, anchor_s) = _centre_size(boxes), _centre_size(slots)
        inside = (c - anchor_c) / cells + 0.5
        offset = torch.logit(inside, eps=EPS)  # eps: a centre exactly on the border
        return torch.cat([offset, torch.log(s.clamp(min=1e-3) / anchor_s)], -1)

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """The inverse of `encode`."""
        anchor_c, anchor_s = _centre_size(slots)
        c = anchor_c + (torch.sigmoid(code[..., :2]) - 0.5) * cells
        s = anchor_s * torch.exp(code[..., 2:].clamp(max=MAX_LOG_SIZE))
        return torch.cat([c - s / 2, c + s / 2], -1)


class TanhCoder:
    """A tanh of every number: the centre within half a cell, the size 0.5 to 1.5 of the anchor's.

    The decoding of the single-shot detector of fast.ai's lesson 9 (2018). A box out of reach is
    encoded as the nearest that is not.
    """

    def encode(self, boxes: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """Boxes [.., 4] relative to anchors [.., 4] in cells [.., 2] (width, height)."""
        (c, s), (anchor_c, anchor_s) = _centre_size(boxes), _centre_size(slots)
        shares = torch.cat([(c - anchor_c) / cells, s / anchor_s - 1], -1) * 2
        return torch.atanh(shares.clamp(EPS - 1, 1 - EPS))

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """The inverse of `encode` where a box can be reached."""
        anchor_c, anchor_s = _centre_size(slots)
        offset, change = (torch.tanh(code) / 2).split(2, -1)
        c, s = anchor_c + offset * cells, anchor_s * (1 + change)
        return torch.cat([c - s / 2, c + s / 2], -1)


class SigmoidCoder:
    """Corners as sigmoid shares of the slot's sides; no box leaves its slot."""

    def encode(self, boxes: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """Boxes [.., 4] relative to slots [.., 4]."""
        low, sides = slots[..., :2], slots[..., 2:] - slots[..., :2]
        shares = (boxes.unflatten(-1, (2, 2)) - low[..., None, :]) / sides[..., None, :]
        return torch.logit(shares.flatten(-2), eps=EPS)  # eps: a corner on the border

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """The inverse of `encode`; corners that come crossed are put in order."""
        low, sides = slots[..., :2], slots[..., 2:] - slots[..., :2]
        a, b = (low + share * sides for share in code.sigmoid().split(2, -1))
        return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], -1)


class SqrtCoder:
    """The centre in cells from the cell's corner, and the roots of the sizes (arXiv 1506.02640, 2).

    Sizes are shares of the image, so that a difference of roots weighs more in a small box. The
    sign of a root that was said does not matter.

    Args:
        grid: cells a side of the image.
    """

    def __init__(self, *, grid: int) -> None:
        self.grid = grid

    def encode(self, boxes: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """Boxes [.., 4] relative to their cells: `slots` [.., 4] of sides `cells` [.., 2]."""
        offset = ((boxes[..., :2] + boxes[..., 2:]) / 2 - slots[..., :2]) / cells
        share = (boxes[..., 2:] - boxes[..., :2]) / (cells * self.grid)
        return torch.cat([offset, share.clamp(min=0).sqrt()], -1)

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """The inverse of `encode`."""
        centre = slots[..., :2] + code[..., :2] * cells
        half = code[..., 2:].square() * cells * (self.grid / 2)
        return torch.cat([centre - half, centre + half], -1)
