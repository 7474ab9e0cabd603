"""YOLO's rows: a text file an image, and the names of the classes.

A row is `class cx cy w h`, class from 0, the rest as shares of the upright image's sides; a sixth
value, the score of a prediction, is passed over, and of a polygon its box is taken. The layouts are
images/<split> and labels/<split> (Ultralytics), <split>/images (Roboflow), what data.yaml or
obj.data names (CVAT's lists), and a text file beside each image (Darknet, LabelImg).
"""

import os
from collections.abc import Iterator
from pathlib import Path

from detect.datasets.boxes import is_flat, numbers
from detect.datasets.yolo_files import Part, find_parts, images_of, rows_of
from detect.datasets.yolo_names import CLASSES, describe
from engine.config.ranges import PartialShare, Seed
from engine.data.image import image_size_of
from engine.data.image_dataset import ImageDataset, check_classes
from engine.data.index import Entry, Index, Object
from engine.data.splits import find_split, list_rows
from engine.data.tree import files_below
from engine.errors import UserError

COLUMNS = ("class", "cx", "cy", "w", "h")
POLYGON = 7  # values of a row, at least: three corners
SLACK = 1.0  # pixels that a box may reach over the border by the rounding of its shares


class YOLO(ImageDataset):
    """Images and boxes of one split.

    An image without a file of rows has no object, which is noted, as is that polygons gave boxes.
    Boxes without area are kept and ignored, and as those that leave their image reported.

    Args:
        root: the folder, or its YAML file.
        classes: in the order of the labels; None: `names` of data.yaml, or the rows of classes.txt
            or of the file that obj.data names.
        splits: a folder of <split>.txt that name images of a set in one piece.
        val_share: of train, held out as "val" where there is no such split.
        seed: of that choice.
        view, on_error: see `ImageDataset`.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str,
        splits: str | None = None,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        classes: list[str] | None = None,
        view: str = "all",
        on_error: str = "fail",
    ) -> None:
        super().__init__(view=view, on_error=on_error)
        given = Path(root).expanduser()
        if not given.exists():
            raise UserError(f"dataset.root={root}: no such folder; check the path")
        self.base = given if given.is_dir() else given.parent
        about = describe(given)
        parts = find_parts(self.base, about, split)
        names = about.names if classes is None else classes
        if names is None:
            raise UserError(
                f"dataset.root={root}: expected data.yaml or {CLASSES} in it, or "
                "dataset.classes=[...]"
            )
        self.classes, self._keypoints = check_classes(names), about.keypoints
        if (val := about.splits.get("val")) and val == about.splits.get("train"):
            self.notes.append(f"{about.file}: val is the same as train, so it is no split val")
        own = {name: part for name, part in parts.items() if name}
        how = find_split(split, root=given, own=own, lists=splits, val_share=val_share)
        part = own.get(how.source) or parts[""]
        self.folder, self._scored, self._polygons = str(part.folder), 0, 0
        self.index = Index.of(self._entries(part))
        if self._scored:
            self.notes.append(f"{self._scored} rows have a score, of a prediction: passed over")
        if self._polygons:
            self.notes.append(f"{self._polygons} rows are polygons: the box around each is taken")
        self.check_boxes()
        self.select_split(how, split, val_share, seed)

    def _entries(self, part: Part) -> Iterator[Entry]:
        names = images_of(self, self.base, part)
        files = {name: rows_of(part, name) for name in names}
        if part.labels is not None:
            self._report_orphans(part.labels, part, set(files.values()))
        bare = sum(not os.path.lexists(file) for file in files.values())
        if bare:
            self._note_bare(bare, len(names), part)
        for name in names:
            rows = files[name]
            try:
                size = image_size_of(os.path.join(self.folder, name))
                texts = list(list_rows(rows)) if os.path.lexists(rows) else []
            except UserError as error:
                self.leave_out(part.folder / name, None, str(error))
                continue
            yield Entry(name, list(self._objects(rows, texts, size)), size)

    def _report_orphans(self, labels: Path, part: Part, known: set[Path]) -> None:
        """Leave out files of rows that no image has; beside images other texts lie as well."""
        for name in files_below(labels, [".txt"]) if labels.is_dir() else []:
            file = labels / name
            is_label = file.stem != "classes" and (labels != part.folder or _is_rows(file))
            if file not in known and is_label:
                self.leave_out(file, None, "no image of this name")

    def _note_bare(self, bare: int, count: int, part: Part) -> None:
        labels = part.labels or part.folder
        of = f" of {count}" if bare == count else ""
        there = labels != part.folder and files_below(part.folder, [".txt"])
        beside = f"; there are *.txt in {part.folder}" if there else ""
        missing = f"{bare}{of} images of {part.folder} have no *.txt in {labels}"
        self.notes.append(f"{missing}: without objects{beside}")

    def _objects(
        self, file: Path, rows: list[tuple[int, str]], size: tuple[int, int]
    ) -> Iterator[Object]:
        """The good rows of one file of labels; boxes in pixels of an image of `size`."""
        for number, row in rows:
            try:
                label, box = self._row(row.split(), size)
            except ValueError as error:
                self.leave_out(file, number, str(error))
                continue
            yield box, label, is_flat(self, file, number, box, size, SLACK)

    def _row(self, texts: list[str], size: tuple[int, int]) -> tuple[int, tuple[float, ...]]:
        if self._keypoints and len(texts) == len(COLUMNS) + self._keypoints:
            texts = texts[: len(COLUMNS)]
        if len(texts) >= POLYGON and len(texts) % 2:
            texts = self._around(texts)
        if len(texts) == len(COLUMNS) + 1:
            *texts, score = texts
            numbers([score], ("score",))
            self._scored += 1
        if len(texts) != len(COLUMNS):
            more = "; or class and the corners of a polygon, x y x y ..." if len(texts) > 6 else ""
            raise ValueError(f"{len(texts)} values, expected {' '.join(COLUMNS)}{more}")
        label, cx, cy, w, h = numbers(texts, COLUMNS)
        if label not in range(len(self.classes)):
            raise ValueError(f"class {texts[0]}, expected 0 to {len(self.classes) - 1}")
        if min(w, h) < 0:
            raise ValueError(f"w {w:g}, h {h:g}, expected sizes from 0 on")
        if max(abs(cx), abs(cy), w, h) > 2:
            raise ValueError(f"'{' '.join(texts)}': expected shares of the image, not pixels")
        height, width = size
        corners = (cx - w / 2) * width, (cy - h / 2) * height
        return int(label), (*corners, (cx + w / 2) * width, (cy + h / 2) * height)

    def _around(self, texts: list[str]) -> list[str]:
        """The row of the box around a polygon."""
        points = numbers(texts[1:], [f"value {i}" for i in range(2, len(texts) + 1)])
        (left, right), (top, bottom) = ((min(s), max(s)) for s in (points[::2], points[1::2]))
        self._polygons += 1
        box = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        return [texts[0], *map(repr, box)]


def _is_rows(file: Path) -> bool:
    """Whether the first row of a text file is one of numbers."""
    try:
        texts = next(iter(list_rows(file)), (0, ""))[1].split()
        return len(texts) >= len(COLUMNS) and bool(numbers(texts, texts))
    except (UserError, ValueError):
        return False
