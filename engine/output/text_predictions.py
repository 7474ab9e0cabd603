"""Detections in text files, one an image, as rows of a predictions file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from engine.data import text_boxes
from engine.data.image import image_size_of
from engine.data.text_boxes import SHARES, TextRows
from engine.output.predictions import Category
from engine.protocols import Dataset
from engine.record import Record

KEYS = ("image_id", "category_id", "bbox", "score")  # of a predictions file's row


class Detections(NamedTuple):
    """What a folder holds."""

    rows: list[dict[str, Any]]  # of a predictions file; image_id is the stem of the text file
    notes: list[str]  # for the console


def read(
    folder: str | Path, dataset: Dataset, categories: Sequence[Category], box: str | None
) -> Detections:
    """The rows of a folder's text files, `engine.data.text_boxes`.

    Args:
        folder: with a file for each image that has a detection.
        dataset: with the true objects; sizes of images are its records'.
        categories: of each label.
        box: what the columns are; None: what all rows fit.

    Raises:
        UserError: naming the file and the row.
    """
    rows = text_boxes.read(folder, scored=True)
    records = _records(rows, dataset)
    sizes = {stem: record.size for stem, record in records.items() if record.size}
    form = text_boxes.form_of(rows, box, sizes)
    names, notes = rows.names, text_boxes.recognised(rows, form, box)
    if form in SHARES:
        sizes = _every_size(rows, records, sizes)
        names, more = _named(rows, [category.name for category in categories])
        notes += more
    if absent := len(dataset) - len({id(record) for record in records.values()}):
        notes.append(f"{absent} of {len(dataset)} images have no file: without detections")
    boxes, scores = text_boxes.boxes_of(rows, form, sizes)
    ids = {category.name: category.id for category in categories}
    stems = [rows.stems[place] for place in rows.file]
    numbers = [ids.get(name, name) for name in names]
    columns = zip(stems, numbers, boxes.tolist(), scores.tolist(), strict=True)
    return Detections([dict(zip(KEYS, row, strict=True)) for row in columns], notes)


def _records(rows: TextRows, dataset: Dataset) -> dict[str, Record]:
    """The images that have a file, by its stem."""
    stems, found = set(rows.stems), {}
    for record in map(dataset.record, range(len(dataset))):
        for stem in (str(record.id), PurePath(record.path).stem):
            if stem in stems:
                found[stem] = record
                break
    return found


def _every_size(
    rows: TextRows, records: Mapping[str, Record], known: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    """The size of each image; of those that are not scored, any."""
    sizes = {stem: (1, 1) for stem in rows.stems if stem not in records} | dict(known)
    for stem, record in records.items():
        if stem not in sizes and os.path.isfile(record.path):
            sizes[stem] = image_size_of(record.path)
    return sizes


def _named(rows: TextRows, classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The class of each row of YOLO's, and what to say of them.

    A number is that of a classes.txt; without one, of the truth's classes, unless those are numbers
    themselves.
    """
    if listed := text_boxes.listed_names(rows):
        return text_boxes.named(rows, listed), []
    if not any(name.isdecimal() for name in rows.names) or all(c.isdecimal() for c in classes):
        return rows.names, []
    shown = ", ".join(f"{number} {name}" for number, name in enumerate(classes[:5]))
    more = ", ..." * (len(classes) > 5)
    note = f"no {text_boxes.CLASSES}: classes count from 0 in the truth's order: {shown}{more}"
    return text_boxes.named(rows, list(classes)), [note]
