"""CSV files of boxes and of labels, by their columns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from detect.datasets.csv import COLUMNS
from detect.datasets.recognise import columns as of
from detect.datasets.recognise.columns import Table
from detect.datasets.recognise.look import Look, Reading
from engine.data.image import image_size_of
from engine.data.image_names import ImageNames, folder_below
from engine.data.table import first_rows
from engine.errors import UserError

ROWS = 200  # that are looked at
MOST = 30  # tables of a folder
VIA = "region_shape_attributes"  # a column of VIA's own tables


class Found(NamedTuple):
    """What one table is: an option of dataset, and keys without the file's own."""

    option: str
    values: tuple[tuple[str, Any], ...]


def readings(look: Look) -> Iterator[Reading]:
    """Each kind of table that is there; files that are splits of a set together."""
    images = ImageNames(str(look.root))
    found: dict[Found, list[str]] = {}
    for file in [f for f in look.files(".csv", ".tsv") if f.count("/") < 3][:MOST]:
        for kind in _kinds(look.root / file, images):
            found.setdefault(kind, []).append(file)
    for kind, files in found.items():
        for paths, names in look.annotations(files):
            yield _reading(kind, look.root, paths, names)


def of_file(path: Path, folder: str | None) -> Iterator[Reading]:
    """The kinds of table that a file may be."""
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        root = Path(folder).expanduser() if folder else path.parent
        for kind in _kinds(path, ImageNames(str(root))):
            yield _reading(kind, root, str(path), path.name)


def _reading(kind: Found, root: Path, paths: Any, names: str) -> Reading:
    what = "CSV of boxes" if kind.option == "csv" else "CSV of labels"
    values = {"root": str(root), "annotations": paths} | dict(kind.values)
    return Reading(kind.option, f"{what} ({names})", values)


def _kinds(file: Path, images: ImageNames) -> list[Found]:
    """What a table may be; nothing where it names no image here."""
    try:
        rows = first_rows(file, ROWS)
    except UserError:
        return []
    if not rows or VIA in rows[0]:
        return []
    table = of.table_of(rows)
    beside = folder_below(file.parent, images.folder)
    name = of.filename_column(table, images, beside)
    if name is None or not table.rows:
        return []
    if not table.has_top:
        found = of.positions(table, name)
        return _of_boxes(table, found, images, beside) if found else []
    part = of.split_column(table, name)
    if boxes := of.box_columns(table, [name, *part.values()]):
        return _named(table, {"filename": name} | part | boxes, images, beside)
    return _of_labels(table, {"filename": name} | part)


def _named(table: Table, found: dict[str, str], images: ImageNames, beside: str) -> list[Found]:
    """The kinds of a table with a top row: one for each column that may be the class."""
    classes = of.class_columns(table, [*found.values()]) or [""]
    kinds = [_of_boxes(table, {"class": name} | found, images, beside) for name in classes]
    return [kind for several in kinds for kind in several]


def _of_boxes(table: Table, found: dict[str, str], images: ImageNames, beside: str) -> list[Found]:
    """The kinds of a table of boxes: one for each reading of its four numbers."""
    is_text = of.TEXT in found
    sizes = _sizes(table, found, images, beside) if is_text else []
    kinds = of.text_kinds(table, found, sizes) if is_text else ["xywh"]
    values: dict[str, Any] = {
        f"columns.{key}": name or None for key, name in found.items() if name != COLUMNS.get(key)
    }
    if not table.has_top:
        keys = {name: key for key, name in found.items()}
        values = {"header": tuple(keys.get(name, name) for name in table.names)}
        values |= {f"columns.{key}": key for key in found if key not in COLUMNS}
    made = []
    for kind in kinds:
        more = {"box": kind} if is_text else {}
        if _are_shares(table, found, kind):
            more["units"] = "shares"
        made.append(Found("csv", tuple((values | more).items())))
    return made


def _are_shares(table: Table, found: dict[str, str], kind: str) -> bool:
    """Whether every number of the boxes lies within 0 to 1."""
    try:
        boxes = of.boxes_of(table, found, kind)
    except ValueError:
        return False
    return bool(boxes) and all(0 <= number <= 1 for box in boxes for number in box)


def _of_labels(table: Table, known: dict[str, str]) -> list[Found]:
    """The kinds of a table of labels: one for each column that may be the label's.

    Args:
        table: without boxes.
        known: the columns of the filename and the split by key.
    """
    taken = [*known.values()]
    names = tuple(
        (f"columns.{key}", name) for key, name in known.items() if name != COLUMNS.get(key)
    )
    if of.marks_of(table, taken):
        return [Found("csv_labels", (*names, ("one_hot", True)))]
    rest = [other for other in table.names if other not in taken]
    found = of.class_columns(table, taken) or (rest if len(rest) == 1 else [])
    kinds = []
    for label in found:
        for mark in of.separators(table, label):
            several = (("separator", mark),) if mark else ()
            kinds.append(Found("csv_labels", (*names, ("columns.label", label), *several)))
    return kinds


def _sizes(
    table: Table, found: dict[str, str], images: ImageNames, beside: str
) -> list[tuple[int, int]]:
    """(height, width) of the image of each row that has a box, from the images themselves."""
    at, box = table.names.index(found["filename"]), table.names.index(found[of.TEXT])
    known: dict[str, tuple[int, int]] = {}
    rows = of.with_cells(table, [at, box])
    for row in rows:
        if row[at] not in known:
            try:
                path = Path(images.folder) / images.find(row[at], beside)
                known[row[at]] = image_size_of(str(path))
            except (UserError, ValueError):
                known[row[at]] = (2**31, 2**31)
    return [known[row[at]] for row in rows]
