"""What was found in images as rows that the readers of data sets take: CSV, and YOLO's text files.

Both are written with all digits that tell float32 numbers apart, and with the score last.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from engine.data.image import IMAGE_SUFFIXES
from engine.errors import UserError
from engine.record import Meta
from engine.whole_file import WholeText, write_whole

if TYPE_CHECKING:
    from engine.objects import Objects

UNNAMED = "object"  # the class of boxes that a network predicts without one


class CSV(WholeText):
    """One table: a row an object, and a row of the file's name alone for an image without any.

    The columns are those of `dataset=csv`, or of `dataset=csv_labels` for a network that finds no
    boxes, and the score; with `frames` the number of the frame too.

    Args:
        path: the file; it is there after `close`.
        classes: the name of each label.
        has_boxes: whether the network finds boxes.
        frames: whether the images are frames.
    """

    def __init__(
        self, path: Path, *, classes: Sequence[str], has_boxes: bool, frames: bool = False
    ) -> None:
        super().__init__(path)
        self.classes, self.has_boxes, self.frames = classes, has_boxes, frames
        self.rows = csv.writer(self.file, lineterminator="\n")
        corners = ("width", "height", "class", "xmin", "ymin", "xmax", "ymax")
        own = corners if has_boxes else ("label",)
        self.rows.writerow(("filename", *(("frame",) if frames else ()), *own, "score"))

    def add(self, found: "Objects", meta: Meta, name: str) -> None:
        """Write the rows of an image; its name is the path below the folder of all images."""
        start = (_encodable(name), *((meta.index,) if self.frames else ()))
        names = [_encodable(_class_name(self.classes, label)) for label in found.labels.tolist()]
        columns = [[name] for name in names]
        if self.has_boxes:
            start += meta.size[::-1]
            columns = [a + b for a, b in zip(columns, found.boxes.tolist(), strict=True)]
        rows = zip(columns, found.scores.tolist(), strict=True)
        self.rows.writerows((*start, *cells, score) for cells, score in rows)
        if not names:
            self.rows.writerow(start)


class YOLOLabels:
    """labels/NAME.txt with a row `class cx cy w h score` an object, and classes.txt beside labels/.

    NAME is the image's path below the folder of all, as `dataset=yolo` looks for it.

    Args:
        folder: of labels/ and classes.txt.
        classes: the name of each label.
    """

    def __init__(self, folder: Path, *, classes: Sequence[str]) -> None:
        self.folder, self.classes = folder, list(classes)
        self._write_classes()

    def file(self, found: "Objects", meta: Meta, name: str) -> tuple[Path, str]:
        """Return the path and the text of an image's file."""
        height, width = meta.size
        lines = []
        columns = (found.labels, found.boxes, found.scores)
        for label, (x1, y1, x2, y2), score in zip(*(c.tolist() for c in columns), strict=True):
            cx, cy = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            w, h = (x2 - x1) / width, (y2 - y1) / height
            lines.append(f"{self._number(label)} {cx!r} {cy!r} {w!r} {h!r} {score!r}\n")
        return self.folder / "labels" / label_file(name), "".join(lines)

    def _number(self, label: int) -> int:
        if label < 0:
            if UNNAMED not in self.classes:
                self.classes.append(UNNAMED)
                self._write_classes()
            return self.classes.index(UNNAMED)
        return label

    def _write_classes(self) -> None:
        write_whole(
            self.folder / "classes.txt",
            "".join(f"{' '.join(name.split())}\n" for name in self.classes),
        )


def label_file(name: str) -> str:
    """The file of YOLO's labels for an image, both below their folders."""
    path = PurePosixPath(name)
    has_suffix = path.suffix.lower() in IMAGE_SUFFIXES  # not that of frame a.b_000001
    return f"{path.with_suffix('') if has_suffix else path}.txt"


def check_label_files(names: Sequence[str]) -> None:
    """Refuse images of which two would have one file of YOLO's labels.

    Raises:
        UserError: naming the first two.
    """
    times = Counter(map(label_file, names))
    twice = [name for name in names if times[label_file(name)] > 1]
    if twice:
        other = next(n for n in twice[1:] if label_file(n) == label_file(twice[0]))
        raise UserError(
            f"save: yolo has one file, labels/{label_file(other)}, for both {twice[0]} and "
            f"{other}: rename one of them, or leave out yolo"
        )


def _class_name(classes: Sequence[str], label: int) -> str:
    return classes[label] if label >= 0 else UNNAMED


def _encodable(text: str) -> str:
    """The text; what UTF-8 lacks escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
