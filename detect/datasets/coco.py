"""COCO's annotation format (https://cocodataset.org/#format-data), boxes only."""

from pathlib import Path, PurePosixPath
from reprlib import repr as shorten
from typing import Any

import numpy as np

from engine.data.image import read_rgb
from engine.errors import UserError
from engine.predictions import is_finite, read_json
from engine.structures import Record

Row = dict[str, Any]


class COCO:
    """A COCO truth file, and the folder of its pictures.

    Pictures stand in the order of their ids and classes in the order of theirs, as in pycocotools,
    so that equal scores rank alike. Crowds and boxes without area are kept and ignored; the latter
    are in `report`.

    Args:
        annotations: the JSON file.
        images: the folder, or None where only the truth matters.
    """

    def __init__(self, *, annotations: str, images: str | None = None) -> None:
        if images is not None and not Path(images).is_dir():
            raise UserError(f"images: got {images}, expected a folder of pictures: check the path")
        self.file, self.folder = annotations, images
        self.report: list[Row] = []
        self.notes: list[str] = []
        pictures, rows, categories = self._sections(read_json(annotations))
        self.classes = [str(self._get(c, "name", "category")) for c in categories]
        self.categories: list[int] = [c["id"] for c in categories]
        self.ids = np.array([p["id"] for p in pictures], np.int64)  # [N]
        self.names = np.array([self._name(p) for p in pictures], str)  # [N]
        self._objects(rows)

    def __len__(self) -> int:
        return len(self.ids)

    def record(self, index: int) -> Record:
        """The truth about one picture; its id is the file's image id."""
        mine = slice(self.first[index], self.first[index + 1])
        return Record(
            id=int(self.ids[index]),
            path=str(Path(self.folder or "", self.names[index])),
            labels=self.labels[mine],
            boxes=self.boxes[mine],
            ignore=self.ignore[mine],
            area=self.area[mine],
        )

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        if self.folder is None:
            raise UserError(f"{self.file}: got no folder of pictures, expected one: set images")
        return read_rgb(self.record(index).path)

    def _sections(self, data: Any) -> list[list[Row]]:
        """Images and categories by id, annotations as they come between them."""
        names = ("images", "annotations", "categories")
        if not isinstance(data, dict) or not all(isinstance(data.get(n), list) for n in names):
            got = sorted(data) if isinstance(data, dict) else type(data).__name__
            raise UserError(
                f"{self.file}: got {got}, expected lists under {', '.join(names)}: is it a COCO "
                "truth file (instances_*.json)?"
            )
        images, rows, categories = (data[n] for n in names)
        return [self._by_id(images, "image"), rows, self._by_id(categories, "category")]

    def _by_id(self, rows: list[Row], what: str) -> list[Row]:
        """Rows by their id, a whole number that no other has."""
        seen = set()
        for row in rows:
            number = self._get(row, "id", what)
            if not isinstance(number, int) or number in seen:
                raise UserError(
                    f"{self.file}: got {what} id {number!r}, expected a whole number, used once"
                )
            seen.add(number)
        return sorted(rows, key=lambda row: row["id"])

    def _get(self, row: Any, key: str, what: str) -> Any:
        """One value of a row."""
        if not isinstance(row, dict) or key not in row:
            raise UserError(f"{self.file}: got {what} {shorten(row)}, expected it to have '{key}'")
        return row[key]

    def _name(self, picture: Row) -> str:
        """The picture's path below the folder; no other is opened."""
        name = PurePosixPath(str(self._get(picture, "file_name", "image")).replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            raise UserError(f"{self.file}: file_name '{name}' leaves the folder of the pictures")
        return str(name)

    def _objects(self, rows: list[Row]) -> None:
        """The annotations as flat arrays, by picture; picture i has rows first[i]:first[i + 1]."""
        image_row = {number: row for row, number in enumerate(self.ids.tolist())}
        label = {number: row for row, number in enumerate(self.categories)}
        image = np.array([self._look_up(a, "image_id", image_row) for a in rows], np.int64)
        order = np.argsort(image, kind="stable")
        self.first = np.searchsorted(image[order], np.arange(len(self) + 1))
        self.labels = np.array([self._look_up(a, "category_id", label) for a in rows], np.int64)
        xywh = np.array([self._box(a) for a in rows], np.float64).reshape(-1, 4)  # [M, 4]
        self.boxes = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]).astype(np.float32)
        self.area = np.array([self._area(a) for a in rows], np.float32)
        flat = (xywh[:, 2:] == 0).any(1)
        self.ignore = np.array([bool(a.get("iscrowd", 0)) for a in rows], bool) | flat
        self._report(rows, flat)
        for field in ("labels", "boxes", "area", "ignore"):
            setattr(self, field, getattr(self, field)[order])

    def _look_up(self, row: Row, key: str, known: dict[int, int]) -> int:
        """The row in `known` that an annotation points to."""
        value = self._get(row, key, "annotation")
        if not isinstance(value, int) or value not in known:
            raise UserError(
                f"{self.file}: annotation {row.get('id')}: got {key} {value!r}, expected one that "
                "the file lists: mend or remove the annotation"
            )
        return known[value]

    def _box(self, row: Row) -> list[float]:
        """Checked [x, y, w, h]."""
        box = self._get(row, "bbox", "annotation")
        fits = isinstance(box, list) and len(box) == 4 and all(map(is_finite, box))
        if not fits or min(box[2:]) < 0:
            raise UserError(
                f"{self.file}: annotation {row.get('id')}: got bbox {box}, expected [x, y, w, h], "
                "finite and not negative in size: mend or remove the annotation"
            )
        return box

    def _area(self, row: Row) -> float:
        """The object's own area, its box's where the file states none."""
        area = row.get("area", row["bbox"][2] * row["bbox"][3])
        if not is_finite(area):
            raise UserError(
                f"{self.file}: annotation {row.get('id')}: got area {area}, expected square pixels"
            )
        return area

    def _report(self, rows: list[Row], flat: np.ndarray) -> None:
        """Note the boxes without area; the row is the annotation's id."""
        for i in np.flatnonzero(flat):
            entry = {"file": self.file, "row": rows[i].get("id"), "action": "ignored"}
            self.report.append({**entry, "reason": f"box {rows[i]['bbox']} has no area"})
