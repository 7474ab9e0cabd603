"""The box code of YOLOv1; its successors' is `detect.coder.Cell`."""

import torch
from torch import Tensor


class Root:
    """The centre in cells from the cell's corner, and the roots of the sizes (arXiv 1506.02640, 2).

    Sizes are shares of the picture, so that a difference of roots weighs more in a small box. The
    sign of a root that was said does not matter.

    Args:
        grid: cells a side of the picture.
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
