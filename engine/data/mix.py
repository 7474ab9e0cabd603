"""Mixes several training images: mosaic (arXiv 2004.10934, 3.3), mixup (1710.09412), cutmix."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from engine.record import Meta, Record

NEAREST = 0.2  # least distance of a mosaic's centre to the border, as a share of the side


class LazySample(NamedTuple):
    """A sample whose pixels are made later, by `draw`."""

    draw: Callable[[], np.ndarray]  # returns [H, W, 3] uint8 RGB that may be written to
    truth: Record  # in pixels of the network's input
    meta: Meta
    scores: np.ndarray | None = None  # [M] float32, share of each object's image; None: all are 1


class Part(NamedTuple):
    """The place and size of one part of a mosaic, in pixels of the input."""

    left: int
    top: int
    size: tuple[int, int]  # (height, width)


def quarters(rng: np.random.Generator, size: tuple[int, int]) -> list[Part]:
    """The four parts of a mosaic of (height, width), around a random centre."""
    y, x = (int(side * rng.uniform(NEAREST, 1 - NEAREST)) for side in size)
    below, right = size[0] - y, size[1] - x
    return [
        Part(0, 0, (y, x)),
        Part(x, 0, (y, right)),
        Part(0, y, (below, x)),
        Part(x, y, (below, right)),
    ]


def mosaic(parts: Sequence[Part], lazy: Sequence[LazySample], size: tuple[int, int]) -> LazySample:
    """One image of (height, width) with a sample in each part; `meta` is the first sample's."""

    def draw() -> np.ndarray:
        image = np.empty((*size, 3), np.uint8)
        for (left, top, (height, width)), sample in zip(parts, lazy, strict=True):
            image[top : top + height, left : left + width] = sample.draw()
        return image

    shifts = [np.array([p.left, p.top, p.left, p.top], np.float32) for p in parts]
    truths = [sample.truth for sample in lazy]
    moved = [
        replace(truth, boxes=np.asarray(truth.boxes) + shift)
        for truth, shift in zip(truths, shifts, strict=True)
    ]
    return LazySample(draw, _join(moved), lazy[0].meta)


def mixup(first: LazySample, second: LazySample, share: float, whole_images: bool) -> LazySample:
    """The weighted mean of both images, `share` of it `first`; boxes of both keep full weight.

    With `whole_images` the labels have the shares as their scores.
    """

    def draw() -> np.ndarray:
        return cv2.addWeighted(first.draw(), share, second.draw(), 1 - share, 0)

    truth = _join([first.truth, second.truth])
    scores = _shares(first, second, share) if whole_images else None
    return LazySample(draw, truth, first.meta, scores)


def cutmix(
    rng: np.random.Generator,
    first: LazySample,
    second: LazySample,
    share: float,
    size: tuple[int, int],
) -> LazySample:
    """`first` with a random rectangle of `second` in its place (arXiv 1905.04899, 3).

    Scores are the shares of the area, after the rectangle is clipped to (height, width) `size`.
    """
    half = np.sqrt(1 - share) / 2 * np.array(size)
    centre = rng.random(2) * size
    top, left = np.maximum(centre - half, 0).astype(int)
    bottom, right = np.minimum(centre + half, size).astype(int)

    def draw() -> np.ndarray:
        image = first.draw()
        image[top:bottom, left:right] = second.draw()[top:bottom, left:right]
        return image

    share = 1 - float((bottom - top) * (right - left)) / (size[0] * size[1])
    truth = _join([first.truth, second.truth])
    return LazySample(draw, truth, first.meta, _shares(first, second, share))


def _shares(first: LazySample, second: LazySample, share: float) -> np.ndarray:
    counts = len(first.truth.labels), len(second.truth.labels)
    return np.repeat(np.array([share, 1 - share], np.float32), counts)


def _join(truths: Sequence[Record]) -> Record:
    """One record with the objects of all, in order, and the id and path of the first."""
    boxes = [truth.boxes for truth in truths if truth.boxes is not None]
    ignore = [np.zeros(len(t.labels), bool) if t.ignore is None else t.ignore for t in truths]
    return replace(
        truths[0],
        labels=np.concatenate([truth.labels for truth in truths]),
        boxes=np.concatenate(boxes) if boxes else None,
        ignore=np.concatenate(ignore),
        area=None,
    )
