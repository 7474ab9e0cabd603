"""Writes the truth of any dataset as YOLO's text files, which `dataset=yolo` reads back equal."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.check.scan import ScannedImage
from engine.console import info
from engine.errors import UserError
from engine.output.tables import check_label_files, label_file
from engine.record import columns
from engine.whole_file import replacing, write_whole


class YoloWriter:
    """Writes images/<split>/ (links to the images), labels/<split>/ and data.yaml of all splits.

    Rows have as many digits as give each corner back to the bit, in pixels of the upright image.
    An ignored object (difficult or crowd) has no row, and their number is printed; a box without
    area has one.

    Args:
        folder: of the set.
        split: whose images are written.
        classes: names by label.
        paths: of all images of the split.
        names: of all splits.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        *,
        classes: Sequence[str],
        paths: Sequence[str],
        names: Sequence[str],
    ) -> None:
        missing = next((path for path in paths if not os.path.isfile(path)), None)
        if missing is not None:
            raise UserError(f"convert=yolo: {missing} is no file, expected a set of image files")
        self.folder, self.split, self.left_out = folder, split, 0
        self.common = os.path.commonpath([os.path.dirname(path) for path in paths])
        check_label_files([self._name(path) for path in paths])
        lines = [f"{name}: images/{name}" for name in names]
        lines += ["names:", *(f"  {i}: {json.dumps(name)}" for i, name in enumerate(classes))]
        write_whole(folder / "data.yaml", "\n".join(lines) + "\n")

    def __enter__(self) -> "YoloWriter":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.left_out:
            info(f"{self.split}: {self.left_out} ignored objects have no row, as YOLO marks none")

    def add(self, scanned: ScannedImage) -> None:
        """Write the rows of one image, and the link to it."""
        name = self._name(scanned.record.path)
        corners, classes, *_ = columns([scanned.upright], [scanned.size])
        height, width = scanned.size
        rows = []
        marked = scanned.upright.ignore
        marks = [False] * len(classes) if marked is None else marked.tolist()
        boxes = corners.astype(float).tolist()  # keeps the difference of two float32 numbers
        labels = classes.tolist()
        for (x1, y1, x2, y2), label, ignore in zip(boxes, labels, marks, strict=True):
            if ignore and x1 < x2 and y1 < y2:
                self.left_out += 1
                continue
            shares = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            shares += (x2 - x1) / width, (y2 - y1) / height
            rows.append(" ".join([str(label), *map(repr, shares)]) + "\n")
        write_whole(self.folder / "labels" / self.split / label_file(name), "".join(rows))
        _link(Path(scanned.record.path), self.folder / "images" / self.split / name)

    def _name(self, path: str) -> str:
        return Path(os.path.relpath(path, self.common)).as_posix()


def _link(image: Path, place: Path) -> None:
    """A link to the image; a copy where the file system has no links."""
    with replacing(place) as temporary:
        try:
            os.symlink(image.resolve(), temporary)
        except OSError:
            shutil.copyfile(image, temporary)
