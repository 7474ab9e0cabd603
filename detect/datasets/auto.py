"""`dataset=auto dataset.root=FOLDER`: what the folder, or the file, is taken for.

The choice is made on the command line, before anything is composed: the configuration of the run,
and so its checkpoint, has the data set that was chosen and never this one.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from detect.datasets.recognise import coco, cvat, image_folder, json_shapes, tables, voc, yolo
from detect.datasets.recognise.look import Look, Reading
from engine.data.image_dataset import ImageDataset
from engine.errors import UserError

LAYOUTS = (voc, cvat, coco, yolo, tables, json_shapes, image_folder)
TABLES = ("csv", "csv_labels")
KNOWN = "PASCAL VOC, CVAT, COCO, YOLO, CSV, labelme, VIA and a folder a class"


class Auto(ImageDataset):
    """Stands on the command line alone, where `choose` puts another data set in its place."""

    def __init__(self, *, root: str, split: str, annotations: str | None = None) -> None:
        raise UserError(
            f"dataset=auto ({annotations or root}, {split}): is chosen on the command line of one "
            "run; expected it there, with dataset.root=FOLDER, or the data set itself"
        )

    @staticmethod
    def choose(given: Mapping[str, Any]) -> tuple[str, dict[str, Any], str]:
        """The option, its keys, and the line that says so.

        Args:
            given: the keys of the data set that the command line has.

        Raises:
            UserError: no layout fits, or more than one does.
        """
        file, folder = given.get("annotations"), given.get("root")
        root = file or folder
        if not isinstance(root, str):
            raise UserError("dataset=auto: looks at a folder or a file: set dataset.root=FOLDER")
        path = Path(root).expanduser()
        found = list(
            _of_file(path, folder if file else None) if path.is_file() else _of_folder(path)
        )
        taken, beside = (found, []) if len(found) == 1 else _with_splits(found)
        if taken:
            line = f"dataset=auto takes {root} for {taken[0].what}: set {taken[0].explicit}"
            line += "".join(f"; not {other.what}: {other.explicit}" for other in beside)
            return taken[0].option, taken[0].values, line
        if found:
            both = "; or ".join(f"{reading.what}: {reading.explicit}" for reading in found)
            raise UserError(f"dataset=auto: {root} fits {len(found)} layouts, choose one: {both}")
        raise _nothing(path)


def _with_splits(found: list[Reading]) -> tuple[list[Reading], list[Reading]]:
    """The only reading with splits of its own, and the lone tables beside it; else none.

    Sets are shipped with a table of the same objects beside their annotation files.
    """
    taken = [reading for reading in found if reading.has_splits]
    beside = [reading for reading in found if not reading.has_splits]
    if len(taken) != 1 or any(reading.option not in TABLES for reading in beside):
        return [], []
    return taken, beside


def _of_folder(path: Path) -> Iterator[Reading]:
    look = Look(path)
    for layout in LAYOUTS:
        yield from layout.readings(look)


def _of_file(path: Path, folder: str | None) -> Iterator[Reading]:
    for layout in LAYOUTS:
        if hasattr(layout, "of_file"):
            yield from layout.of_file(path, folder)


def _nothing(path: Path) -> UserError:
    if path.is_file():
        return UserError(f"dataset=auto: {path} is no file of annotations known here ({KNOWN})")
    look = Look(path)
    top = look.folders[""]
    names = ", ".join([*top.folders, *top.others][:8]) or "no file of annotations"
    return UserError(
        f"dataset=auto: {path} has {look.images} images and {names}, which fits no layout known "
        f"here ({KNOWN}); set dataset=NAME"
    )
