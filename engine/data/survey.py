"""Reads the truth of a split cheaply: labels of all its images, sizes and boxes of some."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from engine.data.stored import header_of, map_images
from engine.data.upright import turn_of, upright
from engine.data.warp_truth import warp_boxes
from engine.errors import UserError
from engine.finding import View
from engine.protocols import Augment, Dataset, DatasetOptions
from engine.record import Record

COUNTED = 50_000  # images whose labels are counted, 7 microseconds each; of more none are
SEEN = 256  # images whose headers are read, 0.1 milliseconds each


class Seen(NamedTuple):
    """Some images of a split, at even distances."""

    records: list[Record]  # upright
    sizes: list[tuple[int, int]]  # (height, width) upright


def counts(data: Dataset, images: int) -> np.ndarray | None:
    """Objects of each class [K] that train or count, in the first images.

    None of drawn images and of too many.
    """
    if DatasetOptions.drawn.of(data) or images > COUNTED:
        return None
    labels = [_live_labels(data.record(i)) for i in range(images)]
    return np.bincount(np.concatenate(labels), minlength=len(data.classes))


def _live_labels(record: Record) -> np.ndarray:
    return record.labels if record.ignore is None else record.labels[~record.ignore]


def seen(data: Dataset, images: int, most: int = SEEN) -> Seen:
    """Of so many images, the first ones, `most` at even distances; those of unknown size left out.

    No image is decoded.
    """
    rows = np.unique(np.linspace(0, images - 1, min(images, most)).round())
    found = Seen([], [])
    for pair in map_images(data, partial(_seen, data), rows.astype(int).tolist()):
        if pair is not None:
            found.records.append(pair[0])
            found.sizes.append(pair[1])
    return found


def _seen(data: Any, row: int) -> tuple[Record, tuple[int, int]] | None:
    """An upright record and its size; None where its file has no header, which is a defect."""
    record = data.record(row)
    if not DatasetOptions.stored.of(data):
        size = record.size
        return size and (upright(record, turn_of(record, size), size), size)
    try:
        header = header_of(data, row, record)
    except UserError:
        return None
    turn = turn_of(record, header.upright, lambda: header)
    return upright(record, turn, header.upright), header.upright


def view(found: Seen, augment: Augment, size: tuple[int, int]) -> View | None:
    """The objects of these images in an input of (height, width); None without boxes."""
    pairs = [(r, s) for r, s in zip(*found, strict=True) if r.boxes is not None]
    if not pairs:
        return None
    boxes = [np.asarray(r.boxes, np.float64).reshape(-1, 4) for r, _ in pairs]
    matrices = [augment.full_viewport(s, size).matrix(size) for _, s in pairs]
    moved = [warp_boxes(b, m) for b, m in zip(boxes, matrices, strict=True)]
    ignore = [np.zeros(len(r.labels), bool) if r.ignore is None else r.ignore for r, _ in pairs]
    sizes = np.repeat([s for _, s in pairs], [len(b) for b in boxes], 0)
    return View(size, np.concatenate(moved), np.concatenate(boxes), sizes, np.concatenate(ignore))
