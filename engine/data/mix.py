"""Training images made of several: mosaic (arXiv 2004.10934, 3.3), mixup (1710.09412), cutmix."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from engine.structures import Meta, Record

NEAREST = 0.2  # of a mosaic's centre to a side of the input, in its sides


class LazySample(NamedTuple):
    """A sample whose pixels are still to be made."""

    draw: Callable[[], np.ndarray]  # makes [H, W, 3] uint8 RGB, to be written to
    truth: Record  # in pixels of the network's input
    meta: Meta
    scores: np.ndarray | None = None  # [M] float32 share of each object's image; None: all of it


class Part(NamedTuple):
    """Where a part of a mosaic lies, in pixels of the input."""

    left: int
    top: int
    size: tuple[int, int]  # (height, width)


def quarters(rng: np.random.Generator, size: tuple[int, int]) -> list[Part]:
    """The four parts of a mosaic of (height, width) about a drawn centre."""
    y, x = (int(side * rng.uniform(NEAREST, 1 - NEAREST)) for side in size)
    below, right = size[0] - y, size[1] - x
    return [
        Part(0, 0, (y, x)),
        Part(x, 0, (y, right)),
        Part(0, y, (below, x)),
        Part(x, y, (below, right)),
    ]


def mosaic(parts: Sequence[Part], plans: Sequence[LazySample], size: tuple[int, int]) -> LazySample:
    """One image of (height, width), a plan in each part; its meta is the first one's."""

    def draw() -> np.ndarray:
        image = np.empty((*size, 3), np.uint8)
        for (left, top, (height, width)), plan in zip(parts, plans, strict=True):
            image[top : top + height, left : left + width] = plan.draw()
        return image

    shifts = [np.array([p.left, p.top, p.left, p.top], np.float32) for p in parts]
    truths = [plan.truth for plan in plans]
    moved = [
        replace(truth, boxes=np.asarray(truth.boxes) + shift)
        for truth, shift in zip(truths, shifts, strict=True)
    ]
    return LazySample(draw, _join(moved), plans[0].meta)


def mixup(one: LazySample, other: LazySample, share: float) -> LazySample:
    """Both images shine through, `one` by its share; boxes of both train in full.

    The classes of whole images have the shares as their scores.
    """

    def draw() -> np.ndarray:
        return cv2.addWeighted(one.draw(), share, other.draw(), 1 - share, 0)

    truth = _join([one.truth, other.truth])
    scores = None if truth.boxes is not None else _shares(one, other, share)
    return LazySample(draw, truth, one.meta, scores)


def cutmix(
    rng: np.random.Generator,
    one: LazySample,
    other: LazySample,
    share: float,
    size: tuple[int, int],
) -> LazySample:
    """A rectangle of `one` shows `other` (arXiv 1905.04899, 3); scores are shares of the area."""
    half = np.sqrt(1 - share) / 2 * np.array(size)
    middle = rng.random(2) * size
    top, left = np.maximum(middle - half, 0).astype(int)
    bottom, right = np.minimum(middle + half, size).astype(int)

    def draw() -> np.ndarray:
        image = one.draw()
        image[top:bottom, left:right] = other.draw()[top:bottom, left:right]
        return image

    share = 1 - float((bottom - top) * (right - left)) / (size[0] * size[1])
    truth = _join([one.truth, other.truth])
    return LazySample(draw, truth, one.meta, _shares(one, other, share))


def _shares(one: LazySample, other: LazySample, share: float) -> np.ndarray:
    counts = len(one.truth.labels), len(other.truth.labels)
    return np.repeat(np.array([share, 1 - share], np.float32), counts)


def _join(truths: Sequence[Record]) -> Record:
    """The objects of all, in order, under the first one's name."""
    boxes = [truth.boxes for truth in truths if truth.boxes is not None]
    ignore = [np.zeros(len(t.labels), bool) if t.ignore is None else t.ignore for t in truths]
    return replace(
        truths[0],
        labels=np.concatenate([truth.labels for truth in truths]),
        boxes=np.concatenate(boxes) if boxes else None,
        ignore=np.concatenate(ignore),
        area=None,
    )
