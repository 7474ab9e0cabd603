"""The annotations of a COCO truth file as they are scored, and counts of what is odd in them."""

import sys
from collections import Counter
from collections.abc import Mapping
from reprlib import repr as shorten
from typing import Any

import numpy as np

from detect.datasets import coco_columns
from engine.errors import UserError
from engine.record import ObjectTable

LISTS = ("images", "annotations", "categories")
WITHOUT_AREA = "without area: their box's area counts"
XYWH, AREA, CROWD = slice(0, 4), 4, 5  # columns of an annotation's numbers [M, 6]


class AnnotationRows:
    """Annotations in the order of their file; one that cannot be scored is refused if it counts."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.keys: list[tuple[Any, Any]] = []  # of each its image's and its category's id
        self.numbers = [np.zeros((0, 6))]
        self.defects: dict[int, str] = {}  # by place
        self.ids: Counter[Any] = Counter()
        self.odd: Counter[str] = Counter()
        self.unlisted_images, self.unlisted = 0, Counter()

    def add(self, rows: list[Any] | np.ndarray) -> None:
        """Take a part of the list: rows, or their numbers as `detect.datasets.coco_columns`."""
        if isinstance(rows, np.ndarray):
            return self._add_numbers(rows)
        numbers = np.full((len(rows), 6), np.nan)
        for place, row in enumerate(rows):
            try:
                key = (row["image_id"], row["category_id"])
                hash(key)
            except (KeyError, TypeError):
                raise self._wrong(
                    len(self.keys), f"got {shorten(row)}, expected image_id and category_id"
                ) from None
            try:
                numbers[place] = self._numbers(row)
            except ValueError as error:
                self.defects[len(self.keys)] = str(error)
            self.keys.append(key)
            if isinstance(row.get("id"), int | float | str):
                self.ids[row["id"]] += 1
        self.numbers.append(numbers)

    def _add_numbers(self, table: np.ndarray) -> None:
        columns, area = coco_columns, table[:, coco_columns.AREA]
        bare = np.isnan(area)
        self.odd[WITHOUT_AREA] += int(bare.sum())
        boxes = table[:, -4:]
        area = np.where(bare, boxes[:, 2:].prod(1), area)
        self.numbers.append(np.column_stack([boxes, area, table[:, columns.CROWD]]))
        keys = table[:, [columns.IMAGE, columns.CATEGORY, columns.ID]]
        images, categories, ids = keys.astype(np.int64).T.tolist()
        self.keys += zip(images, categories, strict=True)
        self.ids.update(ids)

    def table(self, images: Mapping[Any, int], labels: Mapping[Any, int]) -> ObjectTable:
        """The objects of these images and categories, by image.

        Args:
            images: rows in the dataset by id.
            labels: by category id.

        Raises:
            UserError: naming the first annotation that has no box, or whose numbers are none.
        """
        image = np.array([images.get(key[0], -1) for key in self.keys], np.int64)
        label = np.array([labels.get(key[1], -1) for key in self.keys], np.int64)
        kept = (image >= 0) & (label >= 0)
        for place, reason in self.defects.items():
            if kept[place]:
                raise self._wrong(place, reason)
        self.unlisted_images = int((image < 0).sum())
        places = np.flatnonzero((image >= 0) & (label < 0)).tolist()
        self.unlisted = Counter(self.keys[place][1] for place in places)
        rows = np.flatnonzero(kept)
        rows = rows[np.argsort(image[rows], kind="stable")]
        numbers = np.concatenate(self.numbers)[rows]
        ones = np.ones(len(rows))
        return ObjectTable(
            image[rows],
            label[rows],
            numbers[:, XYWH],
            ones,
            numbers[:, AREA],
            numbers[:, CROWD] > 0,
        )

    def notes(self, categories: set[Any]) -> list[str]:
        """What is odd, in a line each; `categories` are all that the file lists."""
        found = [f"annotations {what}: {count}; {how}" for (what, how), count in self._counts()]
        chosen = {number: n for number, n in self.unlisted.items() if number not in categories}
        if chosen:
            ids = ", ".join(map(repr, list(chosen)[:5]))
            found.append(
                f"annotations of categories that the file does not list (id {ids}): "
                f"{sum(chosen.values())}; they are not scored"
            )
        return found

    def _counts(self) -> list[tuple[tuple[str, str], int]]:
        repeated = sum(count for count in self.ids.values() if count > 1)
        counts = {
            ("of images that the file does not list", "they are not scored"): self.unlisted_images,
            ("that share an id with another", "each is scored by itself (pycocotools would score "
             "the last of them in the place of each)"): repeated,
            ("of id 0", "scored as any other (pycocotools would count its detection as wrong)"):
                self.ids[0],
        }  # fmt: skip
        odd = {tuple(text.split(": ", 1)): count for text, count in self.odd.items()}
        return [(text, count) for text, count in (counts | odd).items() if count]  # type: ignore[misc]

    def _numbers(self, row: dict[str, Any]) -> list[float]:
        box = row.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_finite, box)):
            raise ValueError(f"got bbox {shorten(box)}, expected [x, y, w, h], finite numbers")
        area, crowd = row.get("area"), row.get("iscrowd", 0)
        if area is None:
            self.odd[WITHOUT_AREA] += 1
            area = box[2] * box[3]
        if not _finite(area):
            raise ValueError(f"got area {area!r}, expected square pixels")
        if min(box[2:]) < 0:
            self.odd["with a negative width or height: no detection can match them"] += 1
        return [*map(float, box), float(area), self._crowd(crowd)]

    def _crowd(self, value: Any) -> float:
        if isinstance(value, str) and value.strip() in ("0", "1"):
            self.odd["with iscrowd as a text: '0' is read as 0 and '1' as 1"] += 1
            return float(value)
        if not _finite(value):
            raise ValueError(f"got iscrowd {value!r}, expected 0 or 1")
        return float(bool(value))

    def _wrong(self, place: int, reason: str) -> UserError:
        return UserError(f"{self.file}, annotation {place + 1} of the list: {reason}; mend it")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max
