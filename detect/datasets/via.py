"""The annotations of VIA (https://www.robots.ox.ac.uk/~vgg/software/via/): JSON or CSV."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from detect.datasets.boxes import is_flat
from detect.datasets.csv_boxes import ONLY
from engine.config.ranges import PartialShare, Seed
from engine.data.image_dataset import ImageDataset, check_classes, label_of, require_dir
from engine.data.image_names import ImageNames, folder_below
from engine.data.index import Box, Entry, Index, Object
from engine.data.read_json import is_finite, read_json
from engine.data.splits import find_split
from engine.data.table import csv_files, read_table
from engine.errors import UserError

PROJECT = "_via_img_metadata"  # of a saved project: the rows are inside
COLUMNS = {
    "filename": "filename",
    "shape": "region_shape_attributes",
    "attributes": "region_attributes",
}


class Region(NamedTuple):
    """One row: an image, and of its object shape and attributes; None for an image alone."""

    number: int
    filename: str
    shape: Any
    attributes: Any


class VIA(ImageDataset):
    """Images and boxes of one split. Shapes that are no rectangles give the box around them.

    Args:
        root: the folder of the images.
        annotations: the JSON or CSV file of a set in one piece, or a file a split by its name.
        attribute: the region's attribute that names its class; None: the only one that there is,
            or where there is none one class, object.
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
        annotations: str | dict[str, str],
        split: str,
        attribute: str | None = None,
        splits: str | None = None,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        classes: list[str] | None = None,
        view: str = "all",
        on_error: str = "fail",
    ) -> None:
        super().__init__(view=view, on_error=on_error)
        base = require_dir(root)
        self.folder, self._names, self._around = str(base), ImageNames(str(base)), 0
        own, one = csv_files(base, annotations)
        how = find_split(split, root=one or base, own=own, lists=splits, val_share=val_share)
        files = {file: list(regions(file)) for file in ([one] if one else own.values())}
        every = [region for several in files.values() for region in several]
        self._attribute = _attribute(every) if attribute is None else attribute
        self.classes = check_classes(self._class_names(every) if classes is None else classes)
        file = one or own[how.source]
        self.index = Index.of(self._entries(file, files[file]))
        if self._around:
            self.notes.append(f"{self._around} regions are no rectangle: the box around each")
        self.check_boxes()
        self.select_split(how, split, val_share, seed)

    def _class_names(self, rows: Iterable[Region]) -> list[str]:
        if not self._attribute:
            return [ONLY]
        named = [class_of(row, self._attribute) for row in rows if row.shape]
        return sorted({name for name in named if name})

    def _entries(self, file: Path, rows: Iterable[Region]) -> list[Entry]:
        labels = {name: label for label, name in enumerate(self.classes)}
        objects: dict[str, list[Object]] = {}
        beside = folder_below(file.parent, self.folder)
        for row in rows:
            try:
                name = self._names.find(row.filename, beside)
                found = objects.setdefault(name, [])
                if not row.shape:
                    continue
                box = box_of(row.shape)
                label = label_of(class_of(row, self._attribute), labels) if self._attribute else 0
            except ValueError as error:
                self.leave_out(file, row.number, str(error), "region")
                continue
            self._around += row.shape.get("name") != "rect"
            found.append((box, label, is_flat(self, file, row.number, box, None)))
        return [Entry(name, several) for name, several in objects.items()]


def regions(file: Path) -> Iterator[Region]:
    """The rows of a file, JSON or CSV.

    Raises:
        UserError: it is none of VIA's.
    """
    if file.suffix.lower() == ".json":
        yield from _of_json(file)
        return
    for number, row, _ in read_table(file, COLUMNS):
        try:
            shape, attributes = (json.loads(row[k] or "{}") for k in ("shape", "attributes"))
        except ValueError:
            shape, attributes = {"name": "that is no JSON"}, {}
        yield Region(number, row["filename"], shape if isinstance(shape, dict) else {}, attributes)


def _of_json(file: Path) -> Iterator[Region]:
    content = read_json(file)
    rows = content.get(PROJECT, content) if isinstance(content, dict) else None
    if not isinstance(rows, dict) or not all(is_row(row) for row in rows.values()):
        raise UserError(f"{file}: expected VIA's JSON, an image by its name with its regions")
    number = 0
    for row in rows.values():
        inside = row["regions"]
        several = list(inside.values()) if isinstance(inside, dict) else inside
        if not several:
            yield Region(number, row["filename"], None, {})
        for region in several:
            number += 1
            region = region if isinstance(region, dict) else {}
            shape = region.get("shape_attributes")
            yield Region(
                number,
                row["filename"],
                shape if isinstance(shape, dict) else {"name": "nothing"},
                region.get("region_attributes"),
            )


def is_row(row: Any) -> bool:
    """Whether a value of the file is one image of VIA's."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("filename"), str)
        and isinstance(row.get("regions"), list | dict)
    )


def _attribute(rows: Iterable[Region]) -> str:
    """The only attribute that regions have; "" where they have none."""
    names = {
        name: None
        for row in rows
        if row.shape and isinstance(row.attributes, dict)
        for name, value in row.attributes.items()
        if value not in ("", {}, None)
    }
    if len(names) > 1:
        raise UserError(
            f"dataset.attribute: regions have {', '.join(names)}: set dataset.attribute= to that "
            "which names the class"
        )
    return next(iter(names), "")


def class_of(row: Region, attribute: str) -> str:
    """The class of a region; of boxes to tick the only one that is ticked."""
    value = row.attributes.get(attribute, "") if isinstance(row.attributes, dict) else ""
    if isinstance(value, Mapping):
        ticked = [str(name) for name, on in value.items() if on]
        return ticked[0] if len(ticked) == 1 else ""
    return str(value).strip()


def box_of(shape: Mapping[str, Any]) -> Box:
    """The corners of the box around a shape; ValueError where it has none."""
    name = shape.get("name")
    if name == "rect":
        x, y, w, h = _numbers(shape, "x", "y", "width", "height")
        if min(w, h) < 0:
            raise ValueError(f"width {w:g}, height {h:g} of a region, expected sizes from 0 on")
        return x, y, x + w, y + h
    if name in ("polygon", "polyline"):
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        for values in (xs, ys):
            if not isinstance(values, list) or not values or not all(map(is_finite, values)):
                raise ValueError(f"points {str(values)[:40]} of a {name}, expected numbers")
        return min(xs), min(ys), max(xs), max(ys)  # type: ignore[type-var, return-value]
    if name in ("circle", "ellipse"):
        keys = ("r", "r") if name == "circle" else ("rx", "ry")
        x, y, rx, ry = _numbers(shape, "cx", "cy", *keys)
        return x - rx, y - ry, x + rx, y + ry
    raise ValueError(f"a region of the shape '{str(name)[:40]}' has no box")


def _numbers(shape: Mapping[str, Any], *keys: str) -> list[float]:
    values = [shape.get(key) for key in keys]
    if not all(map(is_finite, values)):
        raise ValueError(f"{', '.join(keys)} are {str(values)[:60]}, expected numbers")
    return values  # type: ignore[return-value]
