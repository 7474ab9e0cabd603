"""The box and the class of a row of a table, by the columns that it has."""

import re
from collections.abc import Mapping

from detect.datasets.boxes import CORNERS, check_corners, numbers
from engine.data.index import Box
from engine.errors import UserError, did_you_mean

SIDES = ("box_width", "box_height")
CENTRE = ("cx", "cy")
TEXT = "bbox"
OTHERS = ("filename", "class", "width", "height", "split")  # columns that hold nothing of the box
KEYS = (*OTHERS, *CORNERS, *CENTRE, *SIDES, TEXT)
KINDS = ("corners", "xywh")  # what the four numbers of a text are
UNITS = ("pixels", "shares")
ONLY = "object"  # the class of a table without a column for it
LARGEST_SHARE = 2.0  # of the image's side; a larger number is one of pixels


def used_columns(columns: Mapping[str, str | None]) -> dict[str, str]:
    """The columns that are read, by key: of the box those that its kind has.

    Raises:
        UserError: a key is unknown.
    """
    for key in columns:
        if key not in KEYS:
            raise UserError(f"dataset.columns.{key}: no such column{did_you_mean(key, KEYS)}")
    set_ = {key: name for key, name in columns.items() if name}
    if TEXT in set_:
        box = (TEXT,)
    elif SIDES[0] in set_:
        box = (*(CENTRE if CENTRE[0] in set_ else CORNERS[:2]), *SIDES)
    else:
        box = CORNERS
    kept = (*OTHERS, *box)
    return {key: set_.get(key) or key for key in kept if key in set_ or key in box}


def box_keys(columns: Mapping[str, str]) -> list[str]:
    """The keys of those columns that hold the box."""
    return [key for key in columns if key not in OTHERS]


def box_of(row: Mapping[str, str], keys: list[str], kind: str) -> Box:
    """The corners of a row, in the units of the table.

    Args:
        row: its cells by key.
        keys: of the cells of the box.
        kind: what the four numbers of a text are, "corners" or "xywh".

    Raises:
        ValueError: a number is none, or the box is inverted.
    """
    if keys == [TEXT]:
        texts = [text for text in re.split(r"[\s,;|()\[\]{}]+", row[TEXT]) if text]
        if len(texts) != 4:
            raise ValueError(f"bbox is '{row[TEXT][:40]}', expected four numbers")
        names = CORNERS if kind == "corners" else (*CORNERS[:2], *SIDES)
        values = numbers(texts, names)
        return check_corners(values) if kind == "corners" else _sides(values, corner=True)
    values = numbers([row[key] for key in keys], keys)
    if keys == list(CORNERS):
        return check_corners(values)
    return _sides(values, corner=keys[0] == CORNERS[0])


def _sides(values: Box, corner: bool) -> Box:
    """Corners of a box by its upper left corner, or its centre, and its sides."""
    x, y, w, h = values
    if min(w, h) < 0:
        raise ValueError(f"width {w:g}, height {h:g} of a box, expected sizes from 0 on")
    if not corner:
        x, y = x - w / 2, y - h / 2
    return x, y, x + w, y + h


def in_pixels(box: Box, size: tuple[int, int]) -> Box:
    """The box of shares of an image of (height, width) `size`, in pixels.

    Raises:
        ValueError: a number is too large for a share.
    """
    if max(map(abs, box)) > LARGEST_SHARE:
        raise ValueError(
            f"{' '.join(f'{v:g}' for v in box)}: expected shares of the image, not pixels"
        )
    height, width = size
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height
