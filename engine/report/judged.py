"""The images of an evaluation with what is true of them and what was predicted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from engine.data.stored import header_of
from engine.data.upright import turn_boxes, turn_of
from engine.errors import UserError
from engine.output.truth_table import truth_table
from engine.protocols import Dataset
from engine.record import ObjectTable
from engine.report.diagnosis import Mark


@dataclass
class Judged:
    """N images of a dataset.

    Args:
        data: the dataset.
        rows: [N] of the images in it.
        predicted: what was predicted; `image` is a place in `rows`.
        true: the annotated objects, likewise.
    """

    data: Dataset
    rows: np.ndarray
    predicted: ObjectTable
    true: ObjectTable
    names: dict[int, str] = field(default_factory=dict)  # those asked for so far

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, place: int) -> str:
        """Return the name of an image's file, or its id."""
        if place not in self.names:
            record = self.data.record(int(self.rows[place]))
            name = record.path.replace("\\", "/").rpartition("/")[2]
            self.names[place] = name or str(record.id)
        return self.names[place]

    def image(self, place: int) -> np.ndarray | None:
        """Return the upright image [H, W, 3]; None where there is none or it cannot be read."""
        try:
            return self.data.image(int(self.rows[place]))
        except UserError:
            return None

    def upright(self, place: int, marks: list[Mark], image: np.ndarray | None) -> list[Mark]:
        """Return marks with boxes in pixels of the upright image."""
        row = int(self.rows[place])
        record: Any = self.data.record(row)
        size = image.shape[:2] if image is not None else record.size
        header = partial(header_of, self.data, row, record)
        if not marks or image is None or (turn := turn_of(record, size, header)) == 1:
            return marks
        boxes = turn_boxes(np.array([mark.box for mark in marks]), turn, record.size)
        return [m._replace(box=box.tolist()) for m, box in zip(marks, boxes, strict=True)]


def judged(data: Dataset, predicted: ObjectTable, rows: Sequence[int] | None = None) -> Judged:
    """Return the images of an evaluation.

    Args:
        data: the dataset.
        predicted: the rows of its predictions file, as `engine.output.read_predictions` reads it.
        rows: of the images that were evaluated; None: all.
    """
    used = np.arange(len(data)) if rows is None else np.asarray(rows, np.int64)
    places = np.full(len(data), -1)
    places[used] = np.arange(len(used))
    return Judged(data, used, _of(predicted, places), _of(truth_table(data), places))


def _of(table: ObjectTable, places: np.ndarray) -> ObjectTable:
    """The objects of the images that were evaluated, with their place among these."""
    place = places[table.image]
    keep = place >= 0
    return ObjectTable(place[keep], *(column[keep] for column in table[1:]))
