"""Boxes in CSV files, a row a box; a row of a file name alone is an image without objects."""

from collections.abc import Collection, Iterable
from pathlib import Path

from detect.datasets.boxes import CORNERS, check_corners, is_flat, numbers
from engine.config.ranges import PartialShare, Seed
from engine.data.image import IMAGE_SUFFIXES
from engine.data.image_dataset import (
    ImageDataset,
    check_classes,
    label_of,
    require_dir,
)
from engine.data.index import Box, Entry, Index, Object
from engine.data.splits import find_split
from engine.data.table import csv_files, image_name, read_table

COLUMNS = {name: name for name in ("filename", "class", *CORNERS)}


class CSV(ImageDataset):
    """Images and boxes of one split.

    Images stand in the order of their first rows. Those beside them without a row are not of the
    set, which is noted, unless a list of `splits` names them. Boxes without area or outside their
    image are kept and ignored, and reported.

    Args:
        root: the folder of the images, with <split>.csv.
        annotations: a file instead, of a set in one piece.
        columns: the names in the top row of filename, class, xmin, ymin, xmax, ymax (pixels), and
            of width and height of the image, where there are such.
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
        annotations: str | None = None,
        columns: dict[str, str | None] | None = None,
        splits: str | None = None,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        classes: list[str] | None = None,
        view: str = "all",
        on_error: str = "fail",
    ) -> None:
        super().__init__(view=view, on_error=on_error)
        base = require_dir(root)
        self.folder = str(base)
        self._columns = {k: name for k, name in (COLUMNS | (columns or {})).items() if name}
        own, one = csv_files(base, annotations)
        how = find_split(split, root=one or base, own=own, lists=splits, val_share=val_share)
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
        names: dict[str, str] = {}  # as the rows name the images -> below the folder
        for number, row, defect in read_table(file, self._columns):
            try:
                if defect:
                    raise ValueError(defect)
                if (name := names.get(row["filename"])) is None:
                    name = names[row["filename"]] = image_name(self.folder, row["filename"])
                    objects.setdefault(name, [])
                    sizes.setdefault(name, _size(row))
                if any(row[key] for key in ("class", *CORNERS)):
                    objects[name].append(self._object(file, number, row, labels))
            except ValueError as error:
                self.leave_out(file, number, str(error))
        bare = self._bare(objects.keys())
        if bare and not whole:
            self.notes.append(f"{len(bare)} images in {self.folder} have no row: left out")
        objects |= {name: [] for name in bare if whole}
        return [Entry(name, boxes, sizes.get(name)) for name, boxes in objects.items()]

    def _class_names(self, files: Iterable[Path]) -> list[str]:
        """The classes of the rows that can be used, sorted."""
        names = set()
        for file in files:
            for _, row, defect in read_table(file, self._columns):
                try:
                    _box(row)
                except ValueError:
                    continue  # its own split reports it
                names |= set() if defect else {row["class"]}
        return sorted(names - {""})

    def _object(
        self, file: Path, number: int, row: dict[str, str], labels: dict[str, int]
    ) -> Object:
        box, label = _box(row), label_of(row["class"], labels)
        return box, label, is_flat(self, file, number, box, _size(row))

    def _bare(self, known: Collection[str]) -> list[str]:
        """Images beside those that are known, sorted."""
        folders = {Path(self.folder, name).parent for name in known}
        files = (f for folder in folders or {Path(self.folder)} for f in folder.iterdir())
        names = (f.relative_to(self.folder).as_posix() for f in files)
        return sorted(n for n in names if n.lower().endswith(IMAGE_SUFFIXES) and n not in known)


def _box(row: dict[str, str]) -> Box:
    return check_corners(numbers([row[corner] for corner in CORNERS], CORNERS))


def _size(row: dict[str, str]) -> tuple[int, int] | None:
    """Declared (height, width), where the table has both columns and they are above 0."""
    try:
        height, width = int(row["height"]), int(row["width"])
    except (KeyError, ValueError):
        return None
    return (height, width) if min(height, width) > 0 else None
