"""What data sets say of an image; without torch, so that a reader of files starts at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Row = dict[str, Any]  # of a data report: file, row, reason, action


def defect(file: Any, reason: str, action: str, number: int | None = None) -> Row:
    """What is wrong in a file, in which of its rows where it has some, and what was done."""
    return {"file": None if file is None else str(file), "row": number, "reason": reason,
            "action": action}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """The truth about one image, in pixels of the original image.

    `boxes` None says that each object fills the image (a classification sample has one label,
    or where several classes can be seen, each of them once).
    `ignore` marks objects that neither train nor count (VOC difficult, COCO crowd).
    `area` is the object's own area where the truth states one (COCO), else the box's.
    `size` is the (height, width) that the truth declares, in whose pixels its boxes then are: the
    upright image's, or where EXIF turns it, perhaps the stored one's (`engine.data.upright`).
    """

    id: str | int
    path: str
    labels: np.ndarray  # [M] int64 in 0..K-1
    boxes: np.ndarray | None = None  # [M, 4] float32
    ignore: np.ndarray | None = None  # [M] bool
    area: np.ndarray | None = None  # [M] float32
    size: tuple[int, int] | None = None


def is_outside(boxes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """[M] bool: which boxes xyxy [M, 4] have no part in an image of (height, width) `size`.

    `size` is [2] or [M, 2]; a side of 0 is not known.
    """
    sides = (boxes[:, 2:] <= 0) | ((boxes[:, :2] >= size[..., ::-1]) & (size[..., ::-1] > 0))
    return sides[:, 0] | sides[:, 1]
