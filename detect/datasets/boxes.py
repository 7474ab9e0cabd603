"""Boxes of annotation files: parsed, checked, and reported where something is wrong."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.data.image_dataset import ImageDataset
from engine.data.index import Box
from engine.data.read_json import LARGEST
from engine.record import is_outside

OUTSIDE = "ignored unless the image is larger"  # than declared
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def numbers(texts: Sequence[str | None], names: Sequence[str]) -> Box:
    """The texts as numbers that float32 can hold; ValueError names the first that is none."""
    return tuple(_number(text, name) for text, name in zip(texts, names, strict=True))


def _number(text: str | None, name: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:  # NaN is not
        raise ValueError(f"{name} is '{(text or '').strip()[:40]}', expected a number")
    return value


def check_corners(box: Box) -> Box:
    """The box xyxy; ValueError where its corners are inverted."""
    if box[0] > box[2] or box[1] > box[3]:
        raise ValueError(f"box {show(box)} is inverted, expected xmin < xmax and ymin < ymax")
    return box


def is_flat(
    data: ImageDataset,
    file: Any,
    row: int,
    box: Box,
    size: tuple[int, int] | None,
    slack: float = 0,
) -> bool:
    """Whether a box has no area; reports such a box, and one that leaves its image.

    `size` is the image's (height, width), where it is known; a box may reach `slack` pixels over
    the border by rounding alone. `Objects.from_records` ignores boxes outside the decoded image.
    """
    flat = box[0] == box[2] or box[1] == box[3]
    if flat:
        data.note_defect(file, row, f"box {show(box)} has no area", "ignored")
    elif size and (min(box) < -slack or box[2] > size[1] + slack or box[3] > size[0] + slack):
        gone = is_outside(np.array([box]), np.array(size)).any()
        how, action = ("lies outside", OUTSIDE) if gone else ("leaves", "kept")
        reason = f"box {show(box)} {how} the image of {size[1]} x {size[0]}"
        data.note_defect(file, row, reason, action)
    return flat


def show(box: Box) -> str:
    """A box for a message."""
    return " ".join(f"{corner}={value:g}" for corner, value in zip(CORNERS, box, strict=True))
