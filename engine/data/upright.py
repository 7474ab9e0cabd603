"""Boxes turned with the image that EXIF turns.

Images are always read upright. Annotations may count the pixels as a viewer shows them, or as the
file stores them; the size that they declare (`Record.size`) tells which. Where that leaves it open
(nothing declared, a square, a mirror or half a turn) they count the upright image's, as browsers
and the tools built on them show it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.data.header import SWAPPING
from engine.data.image import read_header
from engine.structures import Meta, Record

BACK = {6: 8, 8: 6}  # the turn that undoes a turn; every other undoes itself


def turn_of(record: Record, size: tuple[int, int]) -> int:
    """EXIF's orientation (1..8) that brings the record's boxes upright; 1 where they are.

    Args:
        record: the truth as its annotation has it.
        size: (height, width) of the upright image.
    """
    if record.boxes is None or record.size in (None, size) or record.size != size[::-1]:
        return 1
    orientation = read_header(record.path).orientation
    return orientation if orientation in SWAPPING else 1  # else the declared size is wrong


def upright(record: Record, turn: int, size: tuple[int, int]) -> Record:
    """The record in pixels of the upright image of `size` (height, width)."""
    if turn == 1 or record.boxes is None:
        return record
    return replace(record, boxes=turn_boxes(record.boxes, turn, record.size or size), size=size)


def turn_boxes(boxes: np.ndarray, turn: int, size: tuple[int, int]) -> np.ndarray:
    """Boxes [M, 4] xyxy of an image of (height, width) `size`, in pixels of the turned image.

    `turn` is EXIF's orientation (CIPA DC-008, 4.6.5): 2 to 4 mirror or turn by half, 5 to 8 change
    the sides too.
    """
    x1, y1, x2, y2 = boxes.T
    height, width = size
    if turn in (2, 3, 7, 8):  # the right edge becomes the first
        x1, x2 = width - x2, width - x1
    if turn in (3, 4, 6, 7):  # the lower edge becomes the first
        y1, y2 = height - y2, height - y1
    return np.stack([y1, x1, y2, x2] if turn in SWAPPING else [x1, y1, x2, y2], 1)


def as_annotated(boxes: np.ndarray, image: np.ndarray, meta: Sequence[Meta]) -> np.ndarray:
    """Boxes [M, 4] of upright images in the pixels of each image's own annotation.

    Args:
        boxes: xyxy.
        image: [M], the row in `meta`.
        meta: one entry an image.
    """
    boxes = boxes.copy()
    for row, one in enumerate(meta):
        if one.turn != 1:
            mine = image == row
            boxes[mine] = turn_boxes(boxes[mine], BACK.get(one.turn, one.turn), one.size)
    return boxes
