"""SSD's crop (arXiv 1512.02325, 2.2): a part of the view in which some object is shown well enough.

Sides of 0.3 to 1 and shapes of 1/2 to 2 are of the authors' code and torchvision's, which try 50
and 40 times; the paper has areas of 0.1 to 1.
"""

from collections.abc import Sequence

import numpy as np

from engine.data.viewport import Viewport

SMALLEST, LONGEST, TRIES = 0.3, 2.0, 50  # side, in sides of the view; ratio of the sides; crops
AS_IT_IS = 1.0  # the overlap that asks for no crop


def overlap_crop(
    rng: np.random.Generator, viewport: Viewport, boxes: np.ndarray, overlaps: Sequence[float]
) -> Viewport:
    """A crop of an upright view by one of the minimum overlaps, drawn, or the view as it is.

    The middle of some object lies in the crop, and one of those overlaps it (IoU) by the minimum.
    Where no crop of those tried will do for an overlap, the next one is taken, in drawn order.

    `boxes` [M, 4] are xyxy in pixels of the original image; of `overlaps`, minima in 0..1, 0 is
    any crop and 1 the whole view.
    """
    order = rng.permutation(overlaps)
    if order[0] >= AS_IT_IS or not len(boxes):
        return viewport
    starts, sides = _tries(rng, viewport)
    best = _best_overlap(starts, sides, _in_view(boxes, viewport))
    for least in order:
        if least >= AS_IT_IS:
            return viewport
        fits = np.flatnonzero(best >= least)
        if len(fits):
            side, start = sides[fits[0]], starts[fits[0]]
            return viewport.part(side, (2 * start + side - 1) / (1 - side))
    return viewport


def _tries(rng: np.random.Generator, viewport: Viewport) -> tuple[np.ndarray, np.ndarray]:
    """Crops: (x, y) and (width, height) [T, 2], as shares of the view; long ones are shortened."""
    draws = rng.random((TRIES, 4))
    sides = SMALLEST + (1 - SMALLEST) * draws[:, :2]
    ratio = LONGEST * viewport.height / viewport.width
    sides = np.minimum(sides, sides[:, ::-1] * (ratio, LONGEST**2 / ratio))
    return draws[:, 2:] * (1 - sides), sides


def _in_view(boxes: np.ndarray, viewport: Viewport) -> np.ndarray:
    """Boxes [M, 2, 2], the two corners, as shares of the view."""
    whole = np.array([viewport.width, viewport.height])
    return (boxes.reshape(-1, 2, 2) - (viewport.x, viewport.y)) / whole + 0.5


def _best_overlap(starts: np.ndarray, sides: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Each crop's best IoU [T] with an object whose middle it holds; -1 where it holds none."""
    first, last = boxes[:, 0], boxes[:, 1]  # [M, 2]
    low, high = starts[:, None], (starts + sides)[:, None]  # [T, 1, 2]
    both = np.minimum(high, last) - np.maximum(low, first)  # [T, M, 2]
    both = both[..., 0] * np.maximum(both[..., 1], 0)
    area = last - first
    union = (sides[:, 0] * sides[:, 1])[:, None] + area[:, 0] * area[:, 1] - both
    away = np.abs(first + last - low - high) < sides[:, None]  # of the middles, twice
    return np.where(away[..., 0] & away[..., 1], both / union, -1.0).max(1)
