"""Rows of a COCO file as columns, by msgspec, which makes no dict of a row.

None for a list with a row that needs a closer look: another type, a number out of range.
"""

from collections.abc import Iterable
from itertools import chain
from math import nan
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from engine.data.read_json import LARGEST

# Of an annotation's numbers in a table [n, 9]
ID, IMAGE, CATEGORY, CROWD, AREA, XY, WH = 0, 1, 2, 3, 4, slice(5, 7), slice(7, 9)
BIG = 2**53  # from here on a float64 does not hold every whole number


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    height: int = 0
    width: int = 0


class _Annotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    area: float = nan  # which JSON cannot say


IMAGES, ANNOTATIONS = msgspec.json.Decoder(list[_Image]), msgspec.json.Decoder(list[_Annotation])
NUMBERS = attrgetter("id", "image_id", "category_id", "iscrowd", "area")
BOX = attrgetter("bbox")


class Images(NamedTuple):
    """Images in the file's order."""

    ids: list[int]
    names: list[str]
    sizes: list[int]  # height and width of each in turn, 0 where the file does not say

    def as_rows(self) -> list[dict[str, Any]]:
        """Return them as the file has them."""
        columns = zip(self.ids, self.names, self.sizes[::2], self.sizes[1::2], strict=True)
        return [
            dict(zip(("id", "file_name", "height", "width"), row, strict=True)) for row in columns
        ]


def images(text: bytes) -> Images | None:
    """Columns of a list of images."""
    try:
        rows = IMAGES.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    ids, sizes = (
        [row.id for row in rows],
        [side for row in rows for side in (row.height, row.width)],
    )
    is_plain = max(map(abs, ids)) < BIG and min(sizes) >= 0 and max(sizes) < 2**31
    return Images(ids, [row.file_name for row in rows], sizes) if is_plain else None


def annotations(text: bytes) -> np.ndarray | None:
    """Numbers [n, 9] of a list of annotations; NaN where one has no area."""
    try:
        rows = ANNOTATIONS.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    numbers = _flat(map(NUMBERS, rows), len(rows), 5)
    boxes = _flat(map(BOX, rows), len(rows), 4)
    return np.hstack([numbers, boxes]) if _are_plain(numbers, boxes) else None


def _flat(rows: Iterable[Iterable[float]], count: int, width: int) -> np.ndarray:
    """Rows of numbers as an array [count, width] of float64."""
    return np.fromiter(chain.from_iterable(rows), np.float64, count * width).reshape(-1, width)


def _are_plain(numbers: np.ndarray, boxes: np.ndarray) -> bool:
    """Whether all numbers are in the range that they have in COCO."""
    crowd, area, ends = numbers[:, CROWD], numbers[:, AREA], boxes[:, :2] + boxes[:, 2:]
    return bool(
        np.abs(numbers[:, :CROWD]).max() < BIG
        and ((crowd == 0) | (crowd == 1)).all()
        and boxes[:, 2:].min() >= 0
        and max(np.abs(boxes).max(), ends.max(), boxes[:, 2:].prod(1).max()) <= LARGEST
        and not (np.abs(area) > LARGEST).any()  # it may be NaN
    )
