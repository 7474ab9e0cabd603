"""Annotations, predictions and defects as plain numbers. No import of torch: it loads slowly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

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


class Meta(NamedTuple):
    """The source of an image of a batch, and the map from its pixels to the network's input."""

    index: int  # row in the dataset
    id: str | int
    path: str
    size: tuple[int, int]  # (height, width) of the original image, upright
    matrix: np.ndarray  # [2, 3] affine map, original pixels -> network input
    turn: int = 1  # EXIF orientation of the annotation's pixels, see `engine.data.upright`
    window: tuple[int, int, int, int] | None = None  # xyxy of the original that is seen; None: all
    passes: int = 1  # through the network, that the image makes: see `engine.passes`

    @classmethod
    def of(cls, index: int, record: Record) -> Self:
        """The source of an image that is not opened; its size is the declared one, else (0, 0)."""
        return cls(index, record.id, record.path, record.size or (0, 0), np.eye(2, 3))


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

    def rounded(self) -> Self:
        """The objects as a network's or a record's: corners and scores in float32.

        An area that is the box's stays so.
        """
        corners = self.corners.astype(np.float32).astype(float)
        boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        of_box = self.area == self.boxes[:, 2] * self.boxes[:, 3]
        area = np.where(of_box, boxes[:, 2] * boxes[:, 3], self.area)
        scores = self.scores.astype(np.float32).astype(float)
        return self._replace(boxes=boxes, scores=scores, area=area)

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


def columns(
    records: Sequence[Record], sizes: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the objects of images of these (height, width), in order.

    Boxes [M, 4] float32 xyxy, labels [M], rows [M] of their records, ignore [M] and area [M]
    float32. A record without boxes has the whole image, one without areas the boxes'. Objects
    outside their image are ignored.
    """
    some = zip(*map(_of_image, records, sizes), strict=True)
    boxes, labels, ignore, area = map(np.concatenate, some)
    rows = np.repeat(np.arange(len(records)), [len(r.labels) for r in records])
    has_boxes = np.array([r.boxes is not None for r in records])[rows]
    ignore |= is_outside(boxes, np.array(sizes)[rows]) & has_boxes
    return boxes, labels, rows, ignore, area


def _of_image(record: Record, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Boxes, labels, ignore and area of one image."""
    count, boxes, area = len(record.labels), record.boxes, record.area
    if boxes is None:
        boxes = np.tile(np.array([0, 0, size[1], size[0]], np.float32), (count, 1))
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    if area is None:
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    ignore = np.zeros(count, bool) if record.ignore is None else record.ignore
    return boxes, np.asarray(record.labels, np.int64), ignore, np.asarray(area, np.float32)
