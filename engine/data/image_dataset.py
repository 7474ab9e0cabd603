"""The base class of datasets made of image files: flat arrays, splits, and reports of defects."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from engine.console import format_defect
from engine.data import splits, views
from engine.data.image import read_rgb
from engine.data.index import Index, unique_stems
from engine.errors import UserError, did_you_mean
from engine.record import Record, Row, defect

MAX_CLASSES = 100_000


class ImageDataset:
    """Images of one split and their truth; a subclass reads the annotations of its format.

    `report` lists the defects of the files, by file and row. With on_error="fail" the first defect
    that leaves something out is a UserError instead.

    Args:
        view: which objects `record` returns, see `engine.data.views`: all, largest, multilabel.
        on_error: at a bad row or image, "fail" stops and "skip" leaves it out and reports it.
    """

    classes: list[str]
    index: Index
    folder: str  # of the images
    stored = True  # the images are files, which the loader reads itself
    mend = "mend it, or leave it out: dataset.on_error=skip"  # how to get on after a defect

    def __init__(self, *, view: str = "all", on_error: str = "fail") -> None:
        if on_error not in ("fail", "skip"):
            raise UserError(f"dataset.on_error is '{on_error}', expected 'fail' or 'skip'")
        self.report: list[Row] = []
        self.notes: list[str] = []
        self.on_error, self.view = on_error, views.check_view(view)

    def __len__(self) -> int:
        return len(self.index)

    def record(self, index: int) -> Record:
        """The truth about one image; its id is its file's stem, or where stems repeat its path."""
        return views.apply_view(self.index.record(index, self.folder), self.view)

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        return read_rgb(os.path.join(self.folder, os.fsdecode(self.index.files[index])))

    def select_split(
        self, source: splits.SplitSource, split: str, val_share: float, seed: int
    ) -> None:
        """Keep only the images of the split, of all that were read.

        Raises:
            UserError: none is left.
        """
        if source.list is not None:
            self.index = self.index.take(self._listed(source.list))
        left_out = [row for row in self.report if row["action"] == "left out"]
        if source.held_out_from_train:
            count, labels = np.diff(self.index.first), self.index.labels
            held = splits.held_out(labels if (count == 1).all() else 0 * count, val_share, seed)
            if split == "val":  # once: the train split reports the defects of the same files
                self.report.clear()
                self.notes = [
                    f"no val split: {held.sum()} of the {len(held)} training images are held out "
                    f"for validation (dataset.val_share={val_share:g})"
                ]
            self.index = self.index.take(np.flatnonzero(held == (split == "val")))
        if not len(self):
            why = f"{len(left_out)} are left out, the first: " if left_out else ""
            why += format_defect(left_out[0]) if left_out else "add some to it"
            left = " left" if source.held_out_from_train else ""
            raise UserError(f"{self.folder}: no image{left} for '{split}'; {why}")

    def check_boxes(self) -> None:
        """Refuse boxes that are shares of the image's sides, as all show; report repeated ones.

        Raises:
            UserError: every box lies within 0 to 1.
        """
        for image, label, box in self.index.repeated():
            reason = f"box {box} of class '{self.classes[label]}' is there more than once"
            self.note_defect(os.path.join(self.folder, image), None, reason, "kept")
        boxes = self.index.boxes
        if boxes is None or not (boxes[:, 2:] > boxes[:, :2]).all(1).any():
            return
        if boxes.min() >= 0 and boxes.max() <= 1:
            raise UserError(
                f"{self.folder}: every box lies within 0 to 1, as shares of the image's sides do; "
                "expected pixels: multiply x by the width and y by the height"
            )

    def _listed(self, file: Path) -> np.ndarray:
        """[N] rows of the images that a list names: by path, or by name or stem if unique."""
        paths = [plain_path(self.folder, os.fsdecode(name)) for name in self.index.files]
        names = {path: row for row, path in enumerate(paths)}
        if unique_stems(paths):
            for row, path in enumerate(map(PurePosixPath, paths)):
                names |= {path.name: row, path.stem: row}
        rows: dict[int, int] = {}
        for number, text in splits.list_rows(file):
            row = names.get(text, names.get(plain_path(self.folder, text)))
            if row is None:
                self.leave_out(file, number, f"the set has no image '{text}'")
            elif row in rows:
                self.leave_out(file, number, f"{text} is in row {rows[row]} already")
            else:
                rows[row] = number
        return np.array(list(rows), np.int64)

    def leave_out(self, file: Any, row: int | None, reason: str, unit: str = "row") -> None:
        """Report a row or file that is left out; with on_error="fail" raise a UserError."""
        if self.on_error == "fail":
            where = file if row is None else f"{file}, {unit} {row}"
            raise UserError(f"{where}: {reason}; {self.mend}")
        self.note_defect(file, row, reason, "left out")

    def note_defect(self, file: Any, row: int | None, reason: str, action: str) -> None:
        """Add a defect to the report, and what was done: "left out", "ignored", "kept"."""
        self.report.append(defect(file, reason, action, row))


def require_dir(root: str) -> Path:
    """The folder that `dataset.root` names; UserError where there is none."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"dataset.root={root}: no such folder; check the path")
    return folder


def plain_path(folder: str, name: str) -> str:
    """A path below `folder` that a file states, without ./ or the folder itself in front."""
    if not name.startswith((".", "/")) and "//" not in name and "\\" not in name:  # nearly all
        return name
    if "\\" in name and not os.path.lexists(os.path.join(folder, name)):
        name = name.replace("\\", "/")  # written on Windows
    path = os.path.normpath(name) if name else ""
    return path.removeprefix(os.path.join(os.path.abspath(folder), ""))


def escapes_root(file: str) -> bool:
    """Whether a path in an annotation leads out of the folder of the images."""
    if ".." not in file and not file.startswith(("/", "\\")):  # the quick test of nearly all
        return False
    path = PurePosixPath(file.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts


def check_classes(names: Sequence[Any]) -> list[str]:
    """The names as strings; UserError if there are none or one is twice in them."""
    names = [str(name) for name in names]
    if not names:
        raise UserError("dataset.classes must name each class once, got no name")
    if len(names) > MAX_CLASSES:
        raise UserError(f"dataset.classes: {len(names)} names, expected at most {MAX_CLASSES}")
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        raise UserError(
            f"dataset.classes must name each class once, got '{name:.80}' {times} times among "
            f"{len(names)} names"
        )
    return names


def label_of(name: str, labels: Mapping[str, int]) -> int:
    """The label of a class by its name; ValueError if there is no such class."""
    if name not in labels:
        hint = did_you_mean(name, labels)
        raise ValueError(f"unknown class '{name}', expected one of {', '.join(labels)}{hint}")
    return labels[name]
