"""What a detector's keys are by the training boxes: its input's size and its anchors."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import ceil, log2
from typing import Any

import numpy as np

from detect.priors import priors, size_iou
from engine.errors import UserError
from engine.finding import View

AUTO = "auto"
SMALL = 5  # percent of the objects that may be smaller than what sizes and strides are chosen for
LARGE = 95  # percent that may be larger
SEEN = 32.0  # pixels of the input that a small object should have: where COCO's small ones end
LEAST = 192  # pixels of the input's longer side
STEP = 32  # pixels, of which the input's sides are multiples
ALIKE = 1.1  # ratio of shapes up to which images count as of one shape
CELLS = 3.0  # of the finest map that a small object should have
STRIDES = (8, 16)  # of the finest map: at 4 it costs four times as much
TOP = 5.0  # cells of the coarsest map that a large object may have
MOST_LEVELS = 5
PYRAMID = ("first_stride", "levels", "scales", "ratios")  # keys that `pyramid` fits
OCTAVE = np.array([1, 2 ** (1 / 3), 2 ** (2 / 3)])  # arXiv 1708.02002, 4: scales of a level
BASES = np.geomspace(1.5, 4.0, 14)  # cells, of the smallest scale
MIDDLES = np.geomspace(0.5, 2.0, 9)  # height / width, of the middle ratio
SPREADS = (1.0, 1.25, 1.6, 2.0, 2.6)  # between two ratios
SAMPLE = 2000  # boxes that anchors are tried on


def image_size(view: View, most: int) -> tuple[int, int]:
    """The (height, width) of an input in which all but the smallest objects can be seen.

    Sides are multiples of 32 in the images' shape, or square where their shapes differ.

    Args:
        view: objects of the training images.
        most: side of a square of as many pixels as the input may have.

    Raises:
        UserError: no object has an area.
    """
    sides = view.original[:, 2:] - view.original[:, :2]
    live = ~view.ignore & (sides > 0).all(1)
    if not live.any():
        raise UserError("image_size=auto: no object has an area; set image_size")
    images = view.image_size[live].astype(float)  # [N, 2]
    share = np.sqrt(sides[live].prod(1)) / images.max(1)  # of the longer side
    shape = np.median(images[:, 0] / images[:, 1])
    if np.percentile(np.abs(np.log(images[:, 0] / images[:, 1] / shape)), 90) > np.log(ALIKE):
        shape = 1.0
    flat = min(shape, 1 / shape)  # shorter / longer side
    needed, own = SEEN / np.percentile(share, SMALL), np.median(images.max(1))
    longer = max(min(needed, own, most / np.sqrt(flat)), LEAST)
    height, width = longer * min(shape, 1), longer * min(1 / shape, 1)
    return _rounded(height), _rounded(width)


def _rounded(side: float) -> int:
    return max(int(side / STEP + 0.5), 1) * STEP


def sizes_of(view: View, key: str) -> np.ndarray:
    """(width, height) [N, 2] of the objects in the input that train.

    Raises:
        UserError: there is none.
    """
    sides = view.boxes[:, 2:] - view.boxes[:, :2]
    live = sides[~view.ignore & (sides > 0).all(1)]
    if not len(live):
        raise UserError(f"head.{key}=auto: no object has an area; set head.{key}")
    return live


def pyramid(
    view: View, strides: Sequence[int], keys: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """The keys `first_stride`, `levels`, `scales` and `ratios` that are `auto`, and their reach.

    Args:
        view: objects of the training images.
        strides: of the backbone's maps.
        keys: the head's, as they are set.
    """
    sizes = sizes_of(view, next(key for key in PYRAMID if keys[key] == AUTO))
    sides = np.sqrt(sizes.prod(1))
    small, large = np.percentile(sides, [SMALL, LARGE])
    first = keys["first_stride"]
    if first == AUTO:
        first = _first_stride(small, strides)
    levels = keys["levels"]
    if levels == AUTO:
        room = int(log2(min(view.size) / first))  # the coarsest map has a cell or more
        levels = min(max(1 + ceil(log2(large / (TOP * first))), 1), MOST_LEVELS, max(room, 1))
    sample = sizes[np.linspace(0, len(sizes) - 1, min(len(sizes), SAMPLE)).astype(int)]
    octaves = first * 2.0 ** np.arange(levels)  # [L] strides

    def overlap(choice: tuple[np.ndarray, np.ndarray]) -> float:
        return float(size_iou(sample, _shapes(octaves, *choice)).max(1).mean())

    scales, ratios = max(_choices(keys["scales"], keys["ratios"]), key=overlap)
    found = {"first_stride": first, "levels": levels,
             "scales": _plain(scales), "ratios": _plain(ratios)}  # fmt: skip
    best = size_iou(sizes, _shapes(octaves, scales, ratios)).max(1)
    chosen = {key: value for key, value in found.items() if keys[key] == AUTO}
    return chosen, reach(best, keys["positive"])


def _first_stride(small: float, strides: Sequence[int]) -> int:
    """The coarsest of the usual strides in which small objects still have a few cells."""
    known = [stride for stride in STRIDES if stride in strides] or [max(strides)]
    return max([s for s in known if CELLS * s <= small], default=known[0])


def _choices(scales: Any, ratios: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The scales and ratios that are tried; those that are set stay."""
    all_scales = [base * OCTAVE for base in BASES] if scales == AUTO else [np.array(scales)]
    spread = (middle * np.array(sorted({1 / s, 1.0, s})) for middle, s in product(MIDDLES, SPREADS))
    all_ratios = list(spread) if ratios == AUTO else [np.array(ratios)]
    return product(all_scales, all_ratios)


def _shapes(strides: np.ndarray, scales: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """(width, height) [n, 2] of all anchors of a cell of each level."""
    side = (strides[:, None] * scales).reshape(-1, 1)  # [L * S, 1]
    root = np.sqrt(ratios)
    return np.stack([side / root, side * root], -1).reshape(-1, 2)


def _plain(values: np.ndarray) -> list[float]:
    return [round(float(value), 2) for value in values]


def anchors(
    view: View, count: int, unit: Sequence[float], least: float = 0.5
) -> tuple[list[list[float]], str]:
    """(width, height) of `count` anchors by k-means, sorted by area, in units, and their reach.

    Args:
        view: objects of the training images.
        count: of anchors.
        unit: (width, height) in pixels of the input of what sizes are counted in.
        least: IoU from which a box counts as reached.

    Raises:
        UserError: fewer boxes of different sizes than anchors.
    """
    sizes = sizes_of(view, "anchors")
    distinct = len(np.unique(sizes, axis=0))
    if distinct < count:
        raise UserError(
            f"head.anchors=auto: the boxes have {distinct} different sizes, {count} anchors need "
            "as many; set head.anchors"
        )
    found = np.array(priors(sizes, count).pixels)
    in_units = (found / np.asarray(unit)).round(3).tolist()
    return in_units, reach(size_iou(sizes, found).max(1), least)


def reach(best: np.ndarray, least: float) -> str:
    """How well anchors fit boxes [N] whose best anchor around the same centre has this IoU."""
    return (
        f"fitted to {len(best):,} boxes, of which {(best >= least).mean():.0%} have an anchor of "
        f"IoU {least:g} or more around their centre, {best.mean():.2f} on average"
    )
