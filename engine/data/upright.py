"""Turns boxes together with an image that EXIF turns.

Images are always read upright. Boxes may be in pixels of the upright image or of the stored one;
the size that the annotation declares (`Record.size`) decides. Where it cannot (nothing declared, a
square image, a flip or a turn by 180 degrees) they are taken as the upright image's, as browsers
and the labelling tools built on them show it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from engine.data.header import SWAPPING, Header
from engine.data.image import read_header
from engine.record import Meta, Record

BACK = {6: 8, 8: 6}  # the inverse of an orientation; all others are their own inverse


def turn_of(
    record: Record, size: tuple[int, int], header: Callable[[], Header] | None = None
) -> int:
    """EXIF's orientation (1..8) that turns the record's boxes upright; 1 if they are upright.

    Args:
        record: the truth in the annotation's pixels.
        size: (height, width) of the upright image.
        header: the image's, asked for where it matters; None: that of the file `record.path`.
    """
    if record.boxes is None or record.size in (None, size) or record.size != size[::-1]:
        return 1
    orientation = (header() if header else read_header(record.path)).orientation
    return orientation if orientation in SWAPPING else 1  # else the declared size is wrong


def upright(record: Record, turn: int, size: tuple[int, int]) -> Record:
    """The record in pixels of the upright image of `size` (height, width)."""
    if turn == 1 or record.boxes is None:
        return record
    return replace(record, boxes=turn_boxes(record.boxes, turn, record.size or size), size=size)


def turn_boxes(boxes: np.ndarray, turn: int, size: tuple[int, int]) -> np.ndarray:
    """Boxes [M, 4] xyxy of an image of (height, width) `size`, in pixels of the turned image.

    `turn` is EXIF's orientation (CIPA DC-008, 4.6.5): 2 to 4 flip or turn by 180 degrees, 5 to 8
    swap width and height too.
    """
    x1, y1, x2, y2 = boxes.T
    height, width = size
    if turn in (2, 3, 7, 8):  # the right edge becomes the first
        x1, x2 = width - x2, width - x1
    if turn in (3, 4, 6, 7):  # the lower edge becomes the first
        y1, y2 = height - y2, height - y1
    return np.stack([y1, x1, y2, x2] if turn in SWAPPING else [x1, y1, x2, y2], 1)


def as_annotated(boxes: np.ndarray, batch_index: np.ndarray, meta: Sequence[Meta]) -> np.ndarray:
    """Boxes [M, 4] xyxy of upright images, in the pixels of each image's annotation.

    Args:
        boxes: in pixels of the upright images.
        batch_index: [M], the row of each box's image in `meta`.
        meta: one entry an image.
    """
    boxes = boxes.copy()
    for row, image in enumerate(meta):
        if image.turn != 1:
            rows = batch_index == row
            boxes[rows] = turn_boxes(boxes[rows], BACK.get(image.turn, image.turn), image.size)
    return boxes
