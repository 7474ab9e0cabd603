"""Anchors: for each cell of each grid, boxes of several scales and ratios around its centre."""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor

from engine.errors import UserError


def last_of_each(strides: Sequence[int]) -> list[int]:
    """Which of a backbone's maps a detector reads: the last of each stride."""
    return [i for i, stride in enumerate(strides) if stride not in strides[i + 1 :]]


def check_anchors(scales: Sequence[float], ratios: Sequence[float], levels: int) -> None:
    """Raise UserError unless there are anchors, all of them with a size."""
    if not scales or not ratios or levels < 1 or min(*scales, *ratios) <= 0:
        raise UserError(
            f"head: scales={list(scales)}, ratios={list(ratios)}, levels={levels}: expected at "
            "least one anchor, and numbers above 0"
        )


def shapes(scales: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Every scale with every ratio (height / width): (width, height) in cells [n, 2], same area."""
    pairs = [(z / r**0.5, z * r**0.5) for z in scales for r in ratios]
    return torch.tensor(pairs, dtype=torch.float32)


def sides_of(sides: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Every ratio (height / width) with every side: (width, height) in pixels [n, 2], same area."""
    high = torch.tensor(ratios, dtype=torch.float32).sqrt()[:, None]
    side = torch.tensor(sides, dtype=torch.float32)
    return torch.stack([1 / high * side, high * side], -1).reshape(-1, 2)


def _places(grid: tuple[int, int]) -> Tensor:
    """(column, row) of every cell, row by row [cells, 1, 2]."""
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 1, 2)


def _cell(grid: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """(width, height) of the cells that divide an image evenly, pixels."""
    return torch.tensor([image_size[1] / grid[1], image_size[0] / grid[0]])


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
    cell = _cell(grid, image_size)
    centre = (_places(grid) + 0.5) * cell  # [cells, 1, 2]
    boxes = torch.cat([centre - sizes / 2, centre + sizes / 2], -1).reshape(-1, 4)
    return boxes, cell.expand(len(boxes), 2)


def corner_anchors(
    grid: tuple[int, int], sizes: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Anchors in whole pixels on the cells' upper left corners, as in torchvision's RetinaNet.

    Takes and returns what `grid_anchors` does. Half sides are rounded, and so, down, is the step
    from cell to cell.
    """
    step = torch.tensor([image_size[1] // grid[1], image_size[0] // grid[0]])
    corner, half = _places(grid) * step, (sizes / 2).round()
    boxes = torch.cat([corner - half, corner + half], -1).reshape(-1, 4)
    return boxes, _cell(grid, image_size).expand(len(boxes), 2)


def default_shapes(scales: Sequence[float], ratios: Sequence[Sequence[float]]) -> list[Tensor]:
    """SSD's default boxes (arXiv 1512.02325, 2.2): (width, height) [n, 2] in shares of the image.

    Of each level a square of its scale, one between its scale and the next, and of each ratio the
    box and its upright. None is larger than the image.
    """
    found = []
    for (scale, following), of_level in zip(pairwise(scales), ratios, strict=True):
        between = sqrt(scale * following)
        pairs = [(scale, scale), (between, between)]
        for root in map(sqrt, of_level):
            pairs += [(scale * root, scale / root), (scale / root, scale * root)]
        found.append(torch.tensor(pairs, dtype=torch.float32).clamp(0, 1))
    return found


def default_boxes(
    grid: tuple[int, int], sizes: Tensor, image_size: tuple[int, int], step: float | None = None
) -> tuple[Tensor, Tensor]:
    """Anchors of `sizes` [n, 2] in shares of the image, `step` pixels apart.

    Takes and returns else what `grid_anchors` does; without a step the cells divide the image.
    Computed in shares first, as torchvision does, for equal bits.
    """
    height, width = image_size
    down, across = (height / step, width / step) if step else grid
    counts = torch.tensor([across, down], dtype=torch.float32)
    centre = (_places(grid) + 0.5) / counts  # [cells, 1, 2]
    low, high = centre - 0.5 * sizes, centre + 0.5 * sizes
    image = torch.tensor([width, height])
    boxes = torch.cat([low * image, high * image], -1).reshape(-1, 4)
    return boxes, _cell(grid, image_size).expand(len(boxes), 2)
