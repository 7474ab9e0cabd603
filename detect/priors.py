"""The sizes of anchors by k-means with the distance 1 - IoU (arXiv 1612.08242, 2)."""

from typing import NamedTuple

import numpy as np

from engine.errors import UserError

STRIDE = 32  # pixels, of YOLOv2's cells
MAX_ITERATIONS = 300  # k-means with an IoU distance need not converge


class Priors(NamedTuple):
    """Anchor sizes, sorted by area."""

    boxes: int  # number of boxes that were clustered
    mean_iou: float  # of each box and its best prior, both around the same centre
    pixels: list[list[float]]  # (width, height) in the network's input
    cells: list[list[float]]  # (width, height) in cells of stride 32


def priors(sizes: np.ndarray, k: int, seed: int = 0) -> Priors:
    """The `k` priors of the sizes [N, 2]; deterministic for a seed.

    Raises:
        UserError: there are fewer distinct sizes than priors.
    """
    sizes = np.asarray(sizes, np.float64)
    distinct = len(np.unique(sizes, axis=0))
    if not 1 <= k <= distinct:
        raise UserError(f"k={k}: expected 1 to {distinct}, the number of distinct box sizes")
    centres = cluster(sizes, initial_centres(sizes, k, np.random.default_rng(seed)))
    centres = centres[np.argsort(centres.prod(1))]
    mean = float(size_iou(sizes, centres).max(1).mean())
    cells = (centres / STRIDE).round(4).tolist()
    return Priors(len(sizes), mean, centres.round(1).tolist(), cells)


def size_iou(sizes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """IoU [N, k] of boxes of these (width, height) around the same centre."""
    inter = np.minimum(sizes[:, None], centres).prod(-1)
    return inter / (sizes.prod(1)[:, None] + centres.prod(1) - inter)


def initial_centres(sizes: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ (Arthur and Vassilvitskii, 2007, 2.2): k of the sizes, far from each other [k, 2].

    Each is drawn with probability proportional to its squared distance from the nearest so far.
    """
    centres = sizes[rng.integers(len(sizes))][None]
    while len(centres) < k:
        squared = (1 - size_iou(sizes, centres).max(1)).clip(0) ** 2
        drawn = rng.choice(len(sizes), p=squared / squared.sum())
        centres = np.vstack([centres, sizes[drawn]])
    return centres


def cluster(sizes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """k-means from the centres [k, 2] on, until no size changes its cluster."""
    k, nearest = len(centres), np.full(len(sizes), -1)
    for _ in range(MAX_ITERATIONS):
        previous, nearest = nearest, size_iou(sizes, centres).argmax(1)
        if (previous == nearest).all():
            break
        count = np.bincount(nearest, minlength=k)[:, None]
        total = np.stack([np.bincount(nearest, side, minlength=k) for side in sizes.T], 1)
        centres = np.where(count > 0, total / count.clip(1), centres)
    return centres
