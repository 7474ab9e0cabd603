"""Anchors: boxes of several scales and aspect ratios around the centre of every grid cell."""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor

from engine.errors import UserError


def last_map_per_stride(strides: Sequence[int]) -> list[int]:
    """Indices of the backbone's feature maps that a detector reads: the last of each stride."""
    return [i for i, stride in enumerate(strides) if stride not in strides[i + 1 :]]


def check_anchors(scales: Sequence[float], ratios: Sequence[float], levels: int) -> None:
    """Raise UserError unless there is at least one anchor and all sizes are positive."""
    if not scales or not ratios or levels < 1 or min(*scales, *ratios) <= 0:
        raise UserError(
            f"head: scales={list(scales)}, ratios={list(ratios)}, levels={levels}: expected at "
            "least one scale, ratio and level, all numbers above 0"
        )


def anchor_shapes(scales: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """(width, height) [n, 2] in cells of every scale with every ratio (height / width).

    An anchor of scale s has the area s ** 2, whatever its ratio.
    """
    pairs = [(s / r**0.5, s * r**0.5) for s in scales for r in ratios]
    return torch.tensor(pairs, dtype=torch.float32)


def anchor_sizes(sides: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """(width, height) [n, 2] in pixels of every ratio (height / width) with every side.

    An anchor of side s has the area s ** 2, whatever its ratio.
    """
    root = torch.tensor(ratios, dtype=torch.float32).sqrt()[:, None]
    side = torch.tensor(sides, dtype=torch.float32)
    return torch.stack([1 / root * side, root * side], -1).reshape(-1, 2)


def _cell_indices(grid: tuple[int, int]) -> Tensor:
    """(column, row) of every cell [cells, 1, 2], row by row."""
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 1, 2)


def _cell_size(grid: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """(width, height) in pixels of the cells of a grid that divides the image evenly."""
    return torch.tensor([image_size[1] / grid[1], image_size[0] / grid[0]])


def grid_anchors(
    grid: tuple[int, int], sizes: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Anchors centred on the cells of one grid, row by row; those of a cell are adjacent.

    Args:
        grid: (rows, columns).
        sizes: [n, 2] (width, height) in pixels.
        image_size: (height, width) in pixels; the cells divide it evenly.

    Returns:
        boxes [rows * columns * n, 4], and the (width, height) of their cells, same length, [.., 2].
    """
    cell = _cell_size(grid, image_size)
    centre = (_cell_indices(grid) + 0.5) * cell  # [cells, 1, 2]
    boxes = torch.cat([centre - sizes / 2, centre + sizes / 2], -1).reshape(-1, 4)
    return boxes, cell.expand(boxes.shape[0], 2)


def corner_anchors(
    grid: tuple[int, int], sizes: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Anchors in whole pixels centred on the cells' upper left corners, as torchvision's RetinaNet.

    Arguments and results are those of `grid_anchors`. Half sides are rounded to whole pixels, and
    the step from cell to cell is rounded down.
    """
    step = torch.tensor([image_size[1] // grid[1], image_size[0] // grid[0]])
    corner, half = _cell_indices(grid) * step, (sizes / 2).round()
    boxes = torch.cat([corner - half, corner + half], -1).reshape(-1, 4)
    return boxes, _cell_size(grid, image_size).expand(boxes.shape[0], 2)


def default_shapes(scales: Sequence[float], ratios: Sequence[Sequence[float]]) -> list[Tensor]:
    """SSD's default boxes (arXiv 1512.02325, 2.2): (width, height) [n, 2] per level.

    In fractions of the image. Each level has a square of its scale, a square of the geometric mean
    of its scale and the next, and per ratio a box and its transpose. All are clamped to the image.
    """
    shapes = []
    for (scale, next_scale), level_ratios in zip(pairwise(scales), ratios, strict=True):
        mean = sqrt(scale * next_scale)
        pairs = [(scale, scale), (mean, mean)]
        for root in map(sqrt, level_ratios):
            pairs += [(scale * root, scale / root), (scale / root, scale * root)]
        shapes.append(torch.tensor(pairs, dtype=torch.float32).clamp(0, 1))
    return shapes


def default_boxes(
    grid: tuple[int, int], sizes: Tensor, image_size: tuple[int, int], step: float | None = None
) -> tuple[Tensor, Tensor]:
    """Anchors of `sizes` [n, 2] in fractions of the image, `step` pixels apart.

    Else arguments and results are those of `grid_anchors`; without a step the cells divide the
    image evenly. Computed in fractions first, as torchvision does, for bitwise equal results.
    """
    height, width = image_size
    down, across = (height / step, width / step) if step else grid
    counts = torch.tensor([across, down], dtype=torch.float32)
    centre = (_cell_indices(grid) + 0.5) / counts  # [cells, 1, 2]
    low, high = centre - 0.5 * sizes, centre + 0.5 * sizes
    image = torch.tensor([width, height])
    boxes = torch.cat([low * image, high * image], -1).reshape(-1, 4)
    return boxes, _cell_size(grid, image_size).expand(boxes.shape[0], 2)
