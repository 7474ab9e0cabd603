"""Annotations, predictions and defects as plain numbers. No import of torch: it loads slowly."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Row = dict[str, Any]  # of a data report: file, row, reason, action


def defect(file: Any, reason: str, action: str, number: int | None = None) -> Row:
    """Return an entry of a data report: file, row if it has rows, what is wrong, what was done."""
    return {"file": None if file is None else str(file), "row": number, "reason": reason,
            "action": action}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """The annotation of one image, in pixels of the original image.

    `boxes` None: each object fills the image (a classification sample has one label, or each of
    its classes once).
    `ignore` marks objects that neither train nor count (VOC difficult, COCO crowd).
    `area` is the area of the object's mask where the annotation has it (COCO), else the box's.
    `size` is the (height, width) that the annotation declares, in whose pixels its boxes are: of
    the upright image or, where EXIF rotates it, perhaps of the stored one (`engine.data.upright`).
    """

    id: str | int
    path: str
    labels: np.ndarray  # [M] int64 in 0..K-1
    boxes: np.ndarray | None = None  # [M, 4] float32
    ignore: np.ndarray | None = None  # [M] bool
    area: np.ndarray | None = None  # [M] float32
    size: tuple[int, int] | None = None


class ObjectTable(NamedTuple):
    """The objects of many images as a file states them, in its order; nothing is rounded."""

    image: np.ndarray  # [M] int64, row in the dataset
    labels: np.ndarray  # [M] int64 in 0..K-1
    boxes: np.ndarray  # [M, 4] float64 xywh, pixels of the original image
    scores: np.ndarray  # [M] float64; of truth 1
    area: np.ndarray  # [M] float64, square pixels
    ignore: np.ndarray  # [M] bool

    @property
    def corners(self) -> np.ndarray:
        """The boxes as xyxy, [M, 4] float64."""
        return np.hstack([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]])

    def stated(self, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Labels, corners [n, 4], ignore flags and areas of some objects, in a record's float32."""
        some = ObjectTable(*(column[rows] for column in self))
        corners, area = some.corners.astype(np.float32), some.area.astype(np.float32)
        return some.labels, corners, some.ignore, area


class Ranked(NamedTuple):
    """All predictions of one class, in any order."""

    scores: np.ndarray  # [M] 0..1
    right: np.ndarray  # [M] bool, whether each finds an object
    total: int  # number of true objects


class Matched(NamedTuple):
    """All predictions of one class, the highest score first, and what became of each."""

    name: str  # of the class
    total: int  # number of true objects that count
    image: np.ndarray  # [M] int64, place among the images that the metric was given
    scores: np.ndarray  # [M]
    iou: np.ndarray  # [M] highest IoU with an object of the class in the image
    object: np.ndarray  # [M] int64, that object's number in its image, from 1; 0 for none
    right: np.ndarray  # [M] bool, a true positive
    wrong: np.ndarray  # [M] bool, a false positive; a prediction that is neither is left out
    why: list[str]  # [M]
    rule: str  # of `ap`, in words
    ap: float | None  # average precision; None without a true object
    recalls: np.ndarray  # [R] where the rule reads the precision; none: it takes the whole area


def rows_by_image(image: np.ndarray) -> dict[int, np.ndarray]:
    """Return the rows of each image that has some, of the image [M] of each row."""
    order = np.argsort(image, kind="stable")
    images, first = np.unique(image[order], return_index=True)
    groups = np.split(order, first[1:]) if len(order) else []
    return dict(zip(images.tolist(), groups, strict=True))


def is_outside(boxes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return [M] bool: which boxes xyxy [M, 4] lie outside an image of (height, width) `size`.

    `size` is [2] or [M, 2]; a side of 0 is unknown.
    """
    sides = (boxes[:, 2:] <= 0) | ((boxes[:, :2] >= size[..., ::-1]) & (size[..., ::-1] > 0))
    return sides[:, 0] | sides[:, 1]
