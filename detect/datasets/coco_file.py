"""The contents of a COCO truth file: its rows, each checked, as flat arrays."""

from collections.abc import Iterable
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import numpy as np

from detect.datasets import coco_columns, coco_rows
from detect.datasets.coco_columns import AREA, BIG, CATEGORY, CROWD, ID, IMAGE, WH, XY
from engine.data.image_dataset import ImageDataset, escapes_root
from engine.data.read_json import is_finite, read_json
from engine.data.tree import find_below
from engine.errors import UserError
from engine.regular_file import is_file_name

LISTS = ("images", "annotations", "categories")
READERS: dict[str, coco_rows.Reader | None] = {
    "images": coco_columns.images,
    "annotations": coco_columns.annotations,
    "categories": None,
}


class COCOFile:
    """The lists of a truth file; the data set reports or refuses a bad row.

    Attributes:
        ids: [N] int64, of the images in the file's order, as `names`, and `size` [N, 2] int32
            (height, width), 0 where there is none.
        categories: the name of each by its id, in the order of the ids.
        key: [M, 3] int64, of each annotation its own id, its image's and its category's.
        boxes: [M, 4] float32 xyxy; `area` [M] float32; `crowd` [M] bool.
    """

    def __init__(self, data: ImageDataset, path: str) -> None:
        self.data, self.path = data, path
        reported = len(data.report)
        try:
            self._read(coco_rows.read(path, READERS))
        except (OSError, ValueError, RecursionError):
            del data.report[reported:]
            content = read_json(path)  # its error names what is wrong, if it is not just unusual
            if not isinstance(content, dict):
                raise self._wrong_content(type(content).__name__) from None
            self._read(content.items())

    def _read(self, items: Iterable[tuple[str, Any]]) -> None:
        self._ids: dict[int, None] = {}  # in order
        self.names: list[str] = []
        self._sizes: list[int] = []
        self._names: dict[int, str] = {}
        self._parts: list[list[np.ndarray]] = [[], [], [], []]
        self._count = 0
        readers = (self._read_images, self._read_annotations, self._read_categories)
        lists: dict[str, Any] = dict(zip(LISTS, readers, strict=True))
        seen: dict[str, bool] = {}
        for key, value in items:
            seen[key] = isinstance(value, list | np.ndarray | coco_columns.Images)
            if seen[key] and key in lists:
                lists[key](value)
        if not all(seen.get(name) for name in LISTS):
            raise self._wrong_content(str(sorted(seen)))
        self._finish()

    def _wrong_content(self, got: str) -> UserError:
        return UserError(
            f"{self.path}: got {got}, expected lists under {', '.join(LISTS)}: is it a COCO truth "
            "file (instances_*.json)?"
        )

    def _finish(self) -> None:
        self.ids = np.fromiter(self._ids, np.int64)
        self.size = np.array(self._sizes, np.int32).reshape(-1, 2)
        self.key, self.boxes, self.area, self.crowd = map(_concatenate, self._parts)
        self.categories = self._different(dict(sorted(self._names.items())))
        del self._ids, self._sizes

    def _is_below(self, name: str) -> bool:
        """Whether the image is in the data set's folder, without what stands in front of it."""
        return bool(self.data.folder) and find_below(Path(self.data.folder), name) is not None

    def _different(self, names: dict[int, str]) -> dict[int, str]:
        """The categories; of several of one name that which has annotations, if only one has."""
        used = set(np.unique(self.key[:, CATEGORY]).tolist())
        by_name: dict[str, list[int]] = {}
        for number, name in names.items():
            by_name.setdefault(name, []).append(number)
        for name, numbers in by_name.items():
            bare = [n for n in numbers if n not in used]
            bare = bare[1:] if len(bare) == len(numbers) else bare
            if len(numbers) - len(bare) > 1:
                raise UserError(
                    f"{self.path}: category {numbers[1]}: '{name}' names another one too: rename "
                    "one, or merge them"
                )
            if len(numbers) > 1:
                ids = ", ".join(map(str, numbers))
                self.data.notes.append(
                    f"categories {ids} are all named '{name}', one of them has annotations: "
                    "they are one class"
                )
                names = {n: text for n, text in names.items() if n not in bare}
        return names

    def _read_images(self, rows: list[Any] | coco_columns.Images) -> None:
        if isinstance(rows, coco_columns.Images):
            if _is_plain(rows, self._ids):
                self._ids |= dict.fromkeys(rows.ids)
                self.names += rows.names
                self._sizes += rows.sizes
                return
            rows = rows.as_rows()
        for row in rows:
            try:
                number = _whole(row, "id", self._ids)
                name = str(_get(row, "file_name"))
                if not is_file_name(name):
                    raise ValueError(f"file_name {name!r}: no file can have this name")
                if escapes_root(name) and not self._is_below(name):
                    raise ValueError(f"file_name '{name}' leaves the folder of the images")
            except ValueError as error:
                self.data.leave_out(self.path, _number(row), str(error), "image")
            else:
                self._ids[number] = None
                self.names.append(name)
                self._sizes += (_side(row, "height"), _side(row, "width"))

    def _read_categories(self, rows: list[Any]) -> None:
        for row in rows:
            try:
                number, name = _whole(row, "id", self._names), str(_get(row, "name"))
                self._names[number] = name
            except ValueError as error:
                raise UserError(f"{self.path}: category {_number(row)}: {error}") from None

    def _read_annotations(self, rows: list[Any] | np.ndarray) -> None:
        if isinstance(rows, np.ndarray):
            table, area = rows, rows[:, WH].prod(1)
            table[:, AREA] = np.where(np.isnan(table[:, AREA]), area, table[:, AREA])
            self._count += len(table)
        else:
            checked = [n for row in rows if (n := self._numbers(row))]
            table = np.array(checked, np.float64).reshape(-1, 9)
        for row in table[(table[:, WH] == 0).any(1)]:
            box = ", ".join(f"{value:g}" for value in row[5:])
            self.data.note_defect(self.path, int(row[ID]), f"box [{box}] has no area", "ignored")
        for column, part in zip(self._parts, _parts(table), strict=True):
            column.append(part)

    def _numbers(self, row: Any) -> list[float] | None:
        """One row of the table; None where it is left out."""
        self._count += 1
        try:
            return [
                _number(row) or self._count,
                _whole(row, "image_id"),
                _whole(row, "category_id"),
                _crowd(row),
                _area(row),
                *row["bbox"],
            ]
        except ValueError as error:
            number = _number(row) or self._count
            self.data.leave_out(self.path, number, str(error), "annotation")
            return None


def _parts(table: np.ndarray) -> tuple[np.ndarray, ...]:
    """Columns in the types they are kept in: key, boxes, area, crowd."""
    corners = np.hstack([table[:, XY], table[:, XY] + table[:, WH]]).astype(np.float32)
    key = table[:, [ID, IMAGE, CATEGORY]].astype(np.int64)
    return key, corners, table[:, AREA].astype(np.float32), table[:, CROWD] != 0


def _is_plain(images: coco_columns.Images, taken: dict[int, None]) -> bool:
    """Whether no image needs a closer look."""
    ids, names, _ = images
    text = "\n".join(["", *names])
    if ".." in text or "\n/" in text or "\\" in text:  # what `escapes_root` has to look at
        return False
    new = len(set(ids)) == len(ids) and taken.keys().isdisjoint(ids)
    return new and all(names) and is_file_name(text)


def _concatenate(parts: list[np.ndarray]) -> np.ndarray:
    """The parts as one array; their memory is freed."""
    column = np.concatenate(parts)
    parts.clear()
    return column


def _get(row: Any, key: str) -> Any:
    if not isinstance(row, dict) or key not in row:
        raise ValueError(f"got {shorten(row)}, expected it to have '{key}'")
    return row[key]


def _whole(row: Any, key: str, taken: Any = ()) -> int:
    """A whole number (3.0 is one too) that is not in `taken`."""
    value = _get(row, key)
    if type(value) is int and -BIG < value < BIG and value not in taken:  # nearly all
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not abs(value) < BIG or value != int(value) or int(value) in taken:
        once = ", used once" if taken != () else ""
        raise ValueError(f"got {key} {shorten(value)}, expected a whole number{once}")
    return int(value)


def _number(row: Any) -> int | None:
    """The row's id for a message; None where it has none."""
    try:
        return _whole(row, "id")
    except ValueError:
        return None


def _crowd(row: dict[str, Any]) -> bool:
    value = row.get("iscrowd", 0)
    if value not in (0, 1, "0", "1", None):  # False and True are 0 and 1
        raise ValueError(f"got iscrowd {shorten(value)}, expected 0 or 1")
    return bool(int(value or 0))


def _area(row: dict[str, Any]) -> float:
    """The object's area, or its box's where the row has none; checks the box first."""
    box = _get(row, "bbox")
    fits = isinstance(box, list) and len(box) == 4 and all(map(is_finite, box))
    if not fits or min(box[2:]) < 0 or not is_finite(max(box[0] + box[2], box[1] + box[3])):
        raise ValueError(
            f"got bbox {shorten(box)}, expected [x, y, w, h], finite and not negative in size"
        )
    area = row.get("area", box[2] * box[3])
    if not is_finite(area):
        raise ValueError(f"got area {shorten(area)}, expected square pixels")
    return area


def _side(row: dict[str, Any], key: str) -> int:
    """Declared pixels; 0 where it declares none."""
    value = row.get(key)
    return int(value) if isinstance(value, int | float) and 0 < value < 2**31 else 0
