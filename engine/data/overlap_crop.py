"""SSD's crop (arXiv 1512.02325, 2.2): a random crop with a minimum IoU with some object.

Sides of 0.3 to 1 and aspect ratios of 1/2 to 2 are those of the authors' code and torchvision's,
which try 50 and 40 crops; the paper has areas of 0.1 to 1.
"""

from collections.abc import Sequence

import numpy as np

from engine.data.viewport import Viewport

SMALLEST, LONGEST, TRIES = 0.3, 2.0, 50  # least share of a side; largest aspect ratio; crops tried
NO_CROP = 1.0  # the minimum overlap that means the whole viewport


def overlap_crop(
    rng: np.random.Generator, viewport: Viewport, boxes: np.ndarray, overlaps: Sequence[float]
) -> Viewport:
    """A random crop of an upright viewport, or the viewport unchanged.

    A minimum overlap is drawn. In the crop lies the centre of at least one object, and of these
    one has at least this IoU with the crop. If none of the crops tried has, the next minimum is
    taken, in random order.

    Args:
        rng: draws the crop.
        viewport: upright, which the crop is a part of.
        boxes: [M, 4] xyxy in pixels of the original image.
        overlaps: minimum IoUs in 0..1; 0 allows any crop, 1 means the whole viewport.
    """
    order = rng.permutation(overlaps).tolist()
    if order[0] >= NO_CROP or not len(boxes):
        return viewport
    starts, sides = _random_crops(rng, viewport)
    best = _best_overlap(starts, sides, _in_view(boxes, viewport)).tolist()
    highest = max(best)
    for least in order:
        if least >= NO_CROP:
            return viewport
        if highest >= least:
            first = next(i for i, overlap in enumerate(best) if overlap >= least)
            (x, y), (width, height) = starts[:, first].tolist(), sides[:, first].tolist()
            place = (2 * x + width - 1) / (1 - width), (2 * y + height - 1) / (1 - height)
            return viewport.part((width, height), place)
    return viewport


def _random_crops(rng: np.random.Generator, viewport: Viewport) -> tuple[np.ndarray, np.ndarray]:
    """Corners (x, y) and sides (width, height) of crops, [2, T] each, as shares of the viewport.

    The longer side is shortened where the aspect ratio exceeds `LONGEST`.
    """
    draws = rng.random((TRIES, 4)).T  # a row for each use: few and long rows are fast
    sides = SMALLEST + (1 - SMALLEST) * draws[:2]
    ratio = LONGEST * viewport.height / viewport.width
    sides = np.minimum(sides, sides[::-1] * np.array([[ratio], [LONGEST**2 / ratio]]))
    return draws[2:] * (1 - sides), sides


def _in_view(boxes: np.ndarray, viewport: Viewport) -> np.ndarray:
    """Boxes as x and y of their two corners, [2, 2, M, 1], as shares of the viewport."""
    middle, whole = np.array(viewport[:4]).reshape(2, 2, 1, 1, 1)
    corners = boxes.T.reshape(2, 2, -1, 1).swapaxes(0, 1)  # [xy, corner, M, 1]
    return (corners - middle) / whole + 0.5


def _best_overlap(starts: np.ndarray, sides: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """[T], the best IoU of each crop with an object whose centre is in it; -1 if there is none."""
    first, last = boxes.swapaxes(0, 1)  # [2, M, 1]
    low, high = starts[:, None], (starts + sides)[:, None]  # [2, 1, T]
    both = np.minimum(high, last) - np.maximum(low, first)  # [2, M, T], above 0 where it counts
    both = both[0] * both[1]
    area = last - first
    union = sides[0] * sides[1] + area[0] * area[1] - both
    inside = np.abs(first + last - low - high) < sides[:, None]  # twice the distance of centres
    return np.where(inside[0] & inside[1], both / union, -1.0).max(0)
