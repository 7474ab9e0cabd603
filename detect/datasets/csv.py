"""Boxes in CSV files, a row a box; a row of a file name alone is an image without objects."""

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from detect.datasets.boxes import CORNERS, is_flat
from detect.datasets.csv_boxes import KINDS, ONLY, UNITS, box_keys, box_of, in_pixels, used_columns
from engine.config.ranges import PartialShare, Seed
from engine.data.image import IMAGE_SUFFIXES, image_size_of
from engine.data.image_dataset import (
    ImageDataset,
    check_classes,
    label_of,
    require_dir,
)
from engine.data.image_names import ImageNames, folder_below
from engine.data.index import Entry, Index, Object
from engine.data.splits import find_split
from engine.data.table import csv_files, read_table, split_by_column
from engine.data.tree import is_visible, split_named
from engine.errors import UserError

COLUMNS = {name: name for name in ("filename", "class", *CORNERS)}


class CSV(ImageDataset):
    """Images and boxes of one split.

    Images stand in the order of their first rows. Those beside them without a row are not of the
    set, which is noted, unless a list of `splits` names them. Boxes without area or outside their
    image are kept and ignored, and reported.

    Args:
        root: the folder of the images, with <split>.csv.
        annotations: a file instead, of a set in one piece, or a file a split by its name.
        columns: the names in the top row of filename, class (null: one class), of the box (xmin,
            ymin, xmax, ymax; or xmin or cx, ymin or cy, box_width, box_height; or bbox, a text of
            four numbers), of width and height of the image, and of the row's split (train, val,
            test) in a file in one piece, where there are such.
        header: the names of the columns of files without a top row.
        box: what a text of four numbers is: xywh or corners.
        units: of the boxes: pixels, or shares of the image's sides.
        splits: a folder of <split>.txt that name images of `annotations`.
        val_share: of train, held out as "val" where there is no such split.
        seed: of that choice.
        classes: in the order of the labels; None: all in the files, sorted.
        view, on_error: see `ImageDataset`.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str,
        annotations: str | dict[str, str] | None = None,
        columns: dict[str, str | None] | None = None,
        header: list[str] | None = None,
        box: str = "xywh",
        units: str = "pixels",
        splits: str | None = None,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        classes: list[str] | None = None,
        view: str = "all",
        on_error: str = "fail",
    ) -> None:
        super().__init__(view=view, on_error=on_error)
        for key, value, known in (("box", box, KINDS), ("units", units, UNITS)):
            if value not in known:
                raise UserError(f"dataset.{key} is '{value}', expected {' or '.join(known)}")
        base = require_dir(root)
        self.folder, self._names = str(base), ImageNames(str(base))
        self._columns, self._header = used_columns(COLUMNS | (columns or {})), header
        self._keys, self._kind, self._units = box_keys(self._columns), box, units
        own, one = csv_files(base, annotations)
        if column := self._columns.get("split"):
            own, one = split_by_column(own, one, column, header)
        how = find_split(split, root=one or base, own=own, lists=splits, val_share=val_share)
        self._part = how.source if column else None
        if classes is None:
            files = [one] if one else own.values()
            classes = self._class_names(files)
        self.classes = check_classes(classes)
        self.index = Index.of(self._entries(one or own[how.source], whole=splits is not None))
        self.check_boxes()
        self.select_split(how, split, val_share, seed)

    def _entries(self, file: Path, whole: bool) -> list[Entry]:
        """Images in the order of their first rows, then with `whole` those without a row."""
        objects: dict[str, list[Object]] = {}
        sizes: dict[str, tuple[int, int] | None] = {}
        labels = {name: label for label, name in enumerate(self.classes)}
        filled = [key for key in ("class", *self._keys) if key in self._columns]
        beside = folder_below(file.parent, self.folder)
        names: dict[str, str] = {}  # as the rows name the images -> below the folder
        others, unsplit = set(), 0  # images of other splits, rows of none
        for number, row, defect in read_table(file, self._columns, self._header):
            try:
                if defect:
                    raise ValueError(defect)
                if self._part is not None and split_named(row["split"]) != self._part:
                    others.add(row["filename"])
                    unsplit += not row["split"]
                    continue
                if (name := names.get(row["filename"])) is None:
                    name = names[row["filename"]] = self._names.find(row["filename"], beside)
                    objects.setdefault(name, [])
                    if name not in sizes:
                        sizes[name] = self._size(name, row)
                if any(row[key] for key in filled):
                    objects[name].append(self._object(file, number, row, labels, sizes[name]))
            except ValueError as error:
                self.leave_out(file, number, str(error))
        if unsplit:
            self.notes.append(f"{unsplit} rows have no split: left out")
        bare = self._bare(objects.keys() | self._paths(others, beside))
        if bare and not whole:
            self.notes.append(f"{len(bare)} images in {self.folder} have no row: left out")
        objects |= {name: [] for name in bare if whole}
        return [Entry(name, boxes, sizes.get(name)) for name, boxes in objects.items()]

    def _class_names(self, files: Iterable[Path]) -> list[str]:
        """The classes of the rows that can be used, sorted."""
        if "class" not in self._columns:
            return [ONLY]
        names = set()
        for file in files:
            for _, row, defect in read_table(file, self._columns, self._header):
                try:
                    box_of(row, self._keys, self._kind)
                except ValueError:
                    continue  # its own split reports it
                names |= set() if defect else {row["class"]}
        return sorted(names - {""})

    def _object(
        self,
        file: Path,
        number: int,
        row: dict[str, str],
        labels: dict[str, int],
        size: tuple[int, int] | None,
    ) -> Object:
        label = label_of(row["class"], labels) if "class" in row else 0
        box = box_of(row, self._keys, self._kind)
        if self._units == "shares" and size:
            box = in_pixels(box, size)
        return box, label, is_flat(self, file, number, box, size)

    def _size(self, name: str, row: dict[str, str]) -> tuple[int, int] | None:
        """Declared (height, width); of boxes in shares the image's own.

        Raises:
            ValueError: it cannot be read.
        """
        if self._units == "pixels":
            return _size(row)
        try:
            return image_size_of(os.path.join(self.folder, name))
        except UserError as error:
            raise ValueError(str(error)) from error

    def _paths(self, names: Iterable[str], beside: str) -> set[str]:
        """The images that rows of other splits name, as far as there are such."""
        found = set()
        for name in names:
            with suppress(ValueError):  # its own split reports it
                found.add(self._names.find(name, beside))
        return found

    def _bare(self, known: Collection[str]) -> list[str]:
        """Images beside those that are known, sorted."""
        folders = {Path(self.folder, name).parent for name in known}
        files = (f for folder in folders or {Path(self.folder)} for f in folder.iterdir())
        names = (f.relative_to(self.folder).as_posix() for f in files if is_visible(f.name))
        return sorted(n for n in names if n.lower().endswith(IMAGE_SUFFIXES) and n not in known)


def _size(row: dict[str, str]) -> tuple[int, int] | None:
    """Declared (height, width), where the table has both columns and they are above 0."""
    try:
        height, width = int(row["height"]), int(row["width"])
    except (KeyError, ValueError):
        return None
    return (height, width) if min(height, width) > 0 else None
