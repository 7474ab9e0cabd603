"""Truth in text files, one an image, to score detections against: `engine.data.text_boxes`."""

from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np

from engine.data import text_boxes
from engine.data.image import IMAGE_SUFFIXES, image_size_of, read_rgb
from engine.data.image_dataset import check_classes, require_dir
from engine.data.text_boxes import SHARES, TextRows
from engine.data.tree import files_below
from engine.errors import UserError, did_you_mean
from engine.record import ObjectTable, Record, Row


class TextTruth:
    """The objects of a folder of text files, by the stems of the files, sorted.

    The images are those that have a file; of YOLO's files, of which there are none for images
    without objects, those of the folder `images`. They are read only for their sizes, and to be
    shown.

    Args:
        annotations: the folder.
        box: what the columns are: a key of FORMS; None: the only one that all rows fit.
        images: the folder of the images, named as the files are.
        classes: the names of 0, 1, ... of YOLO's rows; else those that count. None: those of a
            classes.txt, or all that there are, sorted.
        split: None; a folder is scored whole.
    """

    def __init__(
        self,
        *,
        annotations: str,
        box: str | None = None,
        images: str | None = None,
        classes: list[str] | None = None,
        split: str | None = None,
    ) -> None:
        if split is not None:
            raise UserError(
                f"split={split}: the folder that truth names is scored whole; leave split out"
            )
        self.report: list[Row] = []
        self.notes: list[str] = []
        rows = text_boxes.read(annotations, scored=False)
        self.folder = rows.folder if images is None else require_dir(images)
        self.files = {} if images is None else _images_of(self.folder)
        known = {stem: self._size(stem) for stem in rows.stems if stem in self.files}
        form = text_boxes.form_of(rows, box, known)
        self.notes += text_boxes.recognised(rows, form, box)
        if form in SHARES:
            self._take_images(rows)
        self.ids = sorted(self.files) if form in SHARES else rows.stems
        self.sizes = known | {stem: self._size(stem) for stem in self.files if form in SHARES}
        self._fill(rows, form, classes)

    def __len__(self) -> int:
        return len(self.ids)

    def record(self, index: int) -> Record:
        """The truth about one image, rounded to float32; `table` has every bit."""
        stem = self.ids[index]
        stated = self.objects.stated(slice(self.first[index], self.first[index + 1]))
        return Record(stem, self.files.get(stem, stem), *stated, self.sizes.get(stem))

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB.

        Raises:
            UserError: there is no image of this name, or it cannot be read.
        """
        stem = self.ids[index]
        if stem not in self.files:
            raise UserError(f"{self.folder}: no image {stem}; set images=FOLDER")
        return read_rgb(str(self.folder / self.files[stem]))

    def table(self) -> ObjectTable:
        """All objects as the files state them, by image."""
        return self.objects

    def _size(self, stem: str) -> tuple[int, int]:
        return image_size_of(str(self.folder / self.files[stem]))

    def _take_images(self, rows: TextRows) -> None:
        """Note the images without a file; refuse a file without an image."""
        if not self.files:
            columns = text_boxes.columns("yolo", scored=False)
            raise UserError(
                f"{rows.folder}: rows of shares of the image ({columns}) need the images' sizes: "
                "set images=FOLDER"
            )
        for stem in rows.stems:
            if stem not in self.files:
                raise UserError(f"{rows.folder}/{stem}.txt: no image {stem} in {self.folder}")
        if bare := len(self.files) - len(rows.stems):
            self.notes.append(
                f"{bare} of {len(self.files)} images in {self.folder} have no file in "
                f"{rows.folder}: without objects"
            )

    def _fill(self, rows: TextRows, form: str, classes: list[str] | None) -> None:
        """The objects of the classes that count."""
        listed = text_boxes.listed_names(rows) if classes is None else classes
        names = rows.names
        if form in SHARES and listed is not None:
            names, classes = text_boxes.named(rows, listed), listed
        if classes is None:
            classes = sorted(set(names), key=_order)
        self.classes = self.categories = check_classes(classes)
        self._note_others(names)
        labels = {name: label for label, name in enumerate(self.classes)}
        label = np.array([labels.get(name, -1) for name in names], np.int64)
        boxes, scores = text_boxes.boxes_of(rows, form, self.sizes)
        places = {stem: place for place, stem in enumerate(self.ids)}
        image = np.array([places[stem] for stem in rows.stems], np.int64)[rows.file]
        columns = image, label, boxes, scores, boxes[:, 2:].prod(1), rows.ignore
        kept = np.flatnonzero(label >= 0)
        self.objects = ObjectTable(*(column[kept] for column in columns))
        self.first = np.searchsorted(self.objects.image, np.arange(len(self.ids) + 1))

    def _note_others(self, names: list[str]) -> None:
        """Count the objects of other classes than those that count."""
        for name in self.classes:
            if names and name not in names and (hint := did_you_mean(name, set(names))):
                self.notes.append(f"dataset.classes: no object of the class '{name}'{hint}")
        count = Counter(name for name in names if name not in self.classes)
        if count:
            shown = ", ".join(sorted(count)[:5])
            self.notes.append(
                f"objects of classes that dataset.classes leaves out ({shown}): {count.total()}; "
                "they are not scored"
            )


def _order(name: str) -> tuple[bool, int, str]:
    """A key that sorts whole numbers by size, and texts after them."""
    number = name.isdecimal()
    return not number, int(name) if number else 0, name


def _images_of(folder: Path) -> dict[str, str]:
    """The images below a folder by their stems; UserError where two share one."""
    found: dict[str, str] = {}
    for name in files_below(folder, IMAGE_SUFFIXES):
        stem = PurePosixPath(name).stem
        if stem in found:
            raise UserError(f"images={folder}: {found[stem]} and {name} have one name; leave one")
        found[stem] = name
    if not found:
        raise UserError(f"images={folder}: no image in it")
    return found
