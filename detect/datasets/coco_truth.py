"""A COCO truth file to score a predictions file against, by the rule of pycocotools.

What pycocotools scores is scored: boxes without area or outside their image, images without a
file_name, ids of any kind, annotations of images or categories that the file does not list (they
are passed over). Where it would fail (no area, no iscrowd) or go wrong (annotation ids of 0, which
it takes for "no match", or repeated ones) the annotation is scored right. `notes` counts all that.
"""

import os
from collections import Counter
from collections.abc import Hashable
from typing import Any

import numpy as np

from detect.datasets import coco_columns, coco_rows
from detect.datasets.truth_rows import LISTS, AnnotationRows
from engine.data.image import read_rgb
from engine.data.read_json import is_finite, read_json
from engine.errors import UserError, did_you_mean
from engine.record import ObjectTable, Record, is_outside

Id = Hashable  # a number or a text
READERS: dict[str, coco_rows.Reader | None] = {
    "images": None,
    "annotations": coco_columns.annotations,
    "categories": None,
}


class COCOTruth:
    """The objects of a COCO file; its images are read only to be shown.

    Images and classes stand in the order of their ids, as in pycocotools, so that equal scores rank
    alike; a record's id is the file's image id.

    Args:
        annotations: the file.
        classes: names of the categories that count; None: all.
        split: None; a file is scored whole.
        images: the folder of the images that it names.
    """

    def __init__(
        self,
        *,
        annotations: str,
        classes: list[str] | None = None,
        split: str | None = None,
        images: str | None = None,
    ) -> None:
        if split is not None:
            raise UserError(
                f"split={split}: the file that truth names is scored whole; leave split out"
            )
        self.file, self.folder, self.report, self.notes = annotations, images, [], []
        lists = self._read()
        self._fill_images(lists["images"])
        names = self._category_names(lists["categories"])
        self.categories = _choose(names, classes, annotations)
        self.classes = self._distinct([names[number] for number in self.categories])
        rows: AnnotationRows = lists["annotations"]
        places = {number: row for row, number in enumerate(self.ids)}
        labels = {number: label for label, number in enumerate(self.categories)}
        self.objects = rows.table(places, labels)
        self.notes += rows.notes(set(names))
        self._note_odd_boxes()
        self.first = np.searchsorted(self.objects.image, np.arange(len(self.ids) + 1))

    def __len__(self) -> int:
        return len(self.ids)

    def record(self, index: int) -> Record:
        """The truth about one image, rounded to float32; `table` has every bit."""
        stated = self.objects.stated(slice(self.first[index], self.first[index + 1]))
        number: Any = self.ids[index]
        size = (int(self.sizes[index, 0]), int(self.sizes[index, 1]))
        return Record(number, self.names[index], *stated, size if min(size) > 0 else None)

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB.

        Raises:
            UserError: no folder is given, the file names none, or it cannot be read.
        """
        if self.folder is None or not self.names[index]:
            raise UserError(
                f"{self.file}: truth= reads no images; to run a network on it: "
                "dataset=coco dataset.annotations=FILE dataset.images=FOLDER"
            )
        return read_rgb(os.path.join(self.folder, self.names[index]))

    def table(self) -> ObjectTable:
        """All objects as the file states them, by image."""
        return self.objects

    def _read(self) -> dict[str, Any]:
        """The images and categories as lists of rows, and the annotations."""
        try:
            return self._lists(coco_rows.read(self.file, READERS))
        except (OSError, ValueError, RecursionError):
            content = read_json(self.file)  # its error names what is wrong, if it is not unusual
            if not isinstance(content, dict):
                raise self._wrong_content(type(content).__name__) from None
            return self._lists(content.items())

    def _lists(self, items: Any) -> dict[str, Any]:
        rows = AnnotationRows(self.file)
        found: dict[str, Any] = {}
        for key, value in items:
            if key not in LISTS or not isinstance(value, list | np.ndarray):
                continue
            if key == "annotations":
                found[key] = rows
                rows.add(value)
            else:
                found.setdefault(key, []).extend(value)
        if len(found) < len(LISTS):
            raise self._wrong_content(f"lists under {sorted(found)}")
        return found

    def _wrong_content(self, got: str) -> UserError:
        return UserError(
            f"{self.file}: got {got}, expected lists under {', '.join(LISTS)}: is it a COCO truth "
            "file (instances_*.json)?"
        )

    def _fill_images(self, rows: list[Any]) -> None:
        found = {self._id(row, "image", i): row.get("file_name") for i, row in enumerate(rows, 1)}
        sides = {row["id"]: (row.get("height"), row.get("width")) for row in rows}
        self._count_repeated("image", len(rows) - len(found))
        if nameless := sum(name is None for name in found.values()):
            self.notes.append(f"images without a file_name: {nameless}; they are scored")
        self.ids: list[Any] = sorted(found, key=_order)
        self.names = [str(found[number] or "") for number in self.ids]
        known = [sides[number] if all(map(is_finite, sides[number])) else (0, 0)
                 for number in self.ids]  # fmt: skip
        self.sizes = np.array(known, float).reshape(-1, 2)  # [N, 2], 0 where the file does not say

    def _note_odd_boxes(self) -> None:
        """Count the boxes that a data set leaves out."""
        flat = (self.objects.boxes[:, 2:] == 0).any(1)
        outside = is_outside(self.objects.corners, self.sizes[self.objects.image]) & ~flat
        for count, what in (
            (flat.sum(), "whose box has no area"),
            (outside.sum(), "outside their image"),
        ):
            if count:
                self.notes.append(
                    f"annotations {what}: {count}; they are scored, as by pycocotools"
                )

    def _category_names(self, rows: list[Any]) -> dict[Id, str]:
        found = {
            self._id(row, "category", i): str(row.get("name", row["id"]))
            for i, row in enumerate(rows, 1)
        }
        self._count_repeated("category", len(rows) - len(found))
        return {number: found[number] for number in sorted(found, key=_order)}

    def _id(self, row: Any, kind: str, number: int) -> Id:
        if not isinstance(row, dict) or not isinstance(row.get("id"), int | float | str):
            raise UserError(
                f"{self.file}, {kind} {number}: got {row!r:.80}, expected an 'id', number or text"
            )
        return row["id"]

    def _count_repeated(self, kind: str, count: int) -> None:
        if count:
            self.notes.append(f"{kind} ids that are repeated: {count}; of each the last counts")

    def _distinct(self, names: list[str]) -> list[str]:
        """The names, with its id where categories share one."""
        count = Counter(names)
        if shared := [name for name in count if count[name] > 1]:
            self.notes.append(
                f"categories that share a name: {', '.join(shared)}; each is scored by its id"
            )
        pairs = zip(names, self.categories, strict=True)
        return [name if count[name] == 1 else f"{name} (id {number})" for name, number in pairs]


def _choose(names: dict[Id, str], classes: list[str] | None, file: str) -> list[Any]:
    """The ids of the named categories, in the order of the ids, as in pycocotools."""
    for name in classes or ():
        if name not in names.values():
            hint = did_you_mean(name, names.values())
            raise UserError(f"dataset.classes: {file} has no category '{name}'{hint}")
    return [number for number, name in names.items() if classes is None or name in classes]


def _order(number: Any) -> tuple[bool, Any]:
    """A key that sorts numbers by size, and texts after them."""
    return isinstance(number, str), number
