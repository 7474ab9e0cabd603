"""Anchors: for each cell of each grid, boxes of several zooms and ratios around its centre."""

from collections.abc import Sequence

import torch
from torch import Tensor


def last_of_each(strides: Sequence[int]) -> list[int]:
    """Which of a backbone's maps a detector reads: the last of each stride."""
    return [i for i, stride in enumerate(strides) if stride not in strides[i + 1 :]]


def shapes(zooms: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Every zoom with every ratio (height / width): (width, height) in cells [n, 2], same area."""
    pairs = [(z / r**0.5, z * r**0.5) for z in zooms for r in ratios]
    return torch.tensor(pairs, dtype=torch.float32)


def grid_anchors(
    grid: tuple[int, int], sizes: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Anchors centred on the cells of one grid, row by row, all sizes of a cell together.

    Args:
        grid: (rows, columns).
        sizes: [n, 2] (width, height) in pixels.
        image_size: (height, width) in pixels; the cells divide it evenly.

    Returns:
        boxes [rows * columns * n, 4] and the (width, height) of their cells, likewise [.., 2].
    """
    rows, columns = grid
    cell = torch.tensor([image_size[1] / columns, image_size[0] / rows])
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centre = (torch.stack([x, y], -1).reshape(-1, 1, 2) + 0.5) * cell  # [cells, 1, 2]
    boxes = torch.cat([centre - sizes / 2, centre + sizes / 2], -1).reshape(-1, 4)
    return boxes, cell.expand(len(boxes), 2)
