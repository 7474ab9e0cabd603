"""Reads predictions, a file (COCO results format) or a folder of text files, and scores them.

What pycocotools scores is scored. Rows of images or classes that the ground truth does not list are
passed over and counted, as is whatever else is odd: `Predictions.notes`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from engine.data.read_json import read_json
from engine.errors import UserError
from engine.output import text_predictions
from engine.output.prediction_rows import Rows, check_rows, read_plain
from engine.output.predictions import Category, categories
from engine.output.truth_table import truth_table
from engine.protocols import Dataset, DatasetOptions, Metric, MetricOptions
from engine.record import Meta, ObjectTable


class Predictions(NamedTuple):
    """The rows of a predictions file that belong to a dataset."""

    table: ObjectTable  # in the file's order
    unknown: Counter[Any]  # image_id that the dataset does not have -> its number of rows
    unlisted: Counter[Any]  # category_id that it does not have -> its number of rows
    notes: list[str]  # what else is odd, for the console


def read(
    path: str | Path, dataset: Dataset, categories: Sequence[Category], box: str | None = None
) -> Predictions:
    """Read a predictions file, or a folder of text files, and match its rows to a dataset.

    A row belongs to the image whose record's id is its `image_id`. Where one of them is no number
    it may be the file's name without suffix instead (if two files share that, of neither).

    Args:
        path: the file, or the folder.
        dataset: with the true objects.
        categories: of each label.
        box: of text files what their columns are; None: what all rows fit.

    Raises:
        UserError: naming the file and the row, counted from 1.
    """
    known = _Known(dataset, categories)
    if Path(path).is_dir():
        texts = text_predictions.read(path, dataset, categories, box)
        found = known.match(check_rows(path, texts.rows, known.belongs))
        return found._replace(notes=texts.notes + found.notes)
    rows = read_plain(path)
    if rows is None:
        content = read_json(path)
        if not isinstance(content, list):
            raise UserError(
                f"{path}: got a {type(content).__name__}, expected a list of rows (COCO results "
                "format)"
            )
        rows = check_rows(path, content, known.belongs)
    return known.match(rows)


def read_table(path: str | Path, dataset: Dataset) -> ObjectTable:
    """Return the predicted objects of a file that this program wrote for the dataset."""
    return read(path, dataset, categories(dataset)).table


class _Known:
    """The images and classes that rows may belong to."""

    def __init__(self, dataset: Dataset, categories: Sequence[Category]) -> None:
        self.by_id, self.by_stem = _index(dataset)
        self.numbered = not any(isinstance(key, str) for key in self.by_id)
        self.labels = {category.id: label for label, category in enumerate(categories)}
        self.class_names = [category.name for category in categories]

    def image(self, number: Any) -> int:
        """The place of an image, -1 where there is none."""
        found = self.by_id.get(number)
        if found is None and (isinstance(number, str) or not self.numbered):
            found = self.by_stem.get(str(number))
        return -1 if found is None else found

    def belongs(self, image: Any, category: Any) -> bool:
        """Whether a row of these ids is of the dataset; TypeError of what is no id."""
        return self.image(image) >= 0 and category in self.labels

    def match(self, rows: Rows) -> Predictions:
        """The rows that belong to an image and a class, and what is odd."""
        places = {number: self.image(number) for number in set(rows.images)}
        image = np.array([places[number] for number in rows.images], np.int64)
        label = np.array([self.labels.get(x, -1) for x in rows.categories], np.int64)
        kept = np.flatnonzero((image >= 0) & (label >= 0))
        boxes, none = rows.boxes[kept], np.zeros(len(kept), bool)
        unknown, unlisted = np.flatnonzero(image < 0), np.flatnonzero((image >= 0) & (label < 0))
        return Predictions(
            ObjectTable(image[kept], label[kept], boxes, rows.scores[kept], rows.areas[kept], none),
            Counter(rows.images[i] for i in unknown.tolist()),
            Counter(rows.categories[i] for i in unlisted.tolist()),
            [*self._conflicts(rows, label, kept), *_negative(boxes)],
        )

    def _conflicts(self, rows: Rows, label: np.ndarray, kept: np.ndarray) -> Iterator[str]:
        """The rows that call a class otherwise than the ground truth."""
        wrong = {
            (category, name)
            for category, name in set(zip(rows.categories, rows.names, strict=True))
            if name is not None and category in self.labels
            and name != self.class_names[self.labels[category]]
        }  # fmt: skip
        if not wrong:
            return
        found = [i for i in kept.tolist() if (rows.categories[i], rows.names[i]) in wrong]
        for i in found[:1]:
            yield (
                f"names and ids of classes are in conflict in {len(found)} rows, the ids count: "
                f"row {i + 1} calls category_id {rows.categories[i]} {rows.names[i]!r}, the ground "
                f"truth {self.class_names[label[i]]!r}"
            )


def _negative(boxes: np.ndarray) -> Iterator[str]:
    if count := int((boxes[:, 2:] < 0).any(1).sum()):
        yield f"rows with a negative width or height: {count}; they match no object"


def score(dataset: Dataset, metric: Metric, predicted: ObjectTable) -> dict[str, float]:
    """Return the metric's numbers for the rows of a predictions file; opens no image."""
    metric.reset()
    update = MetricOptions.update_table.of(metric)
    if update is not None:
        is_exact = DatasetOptions.table.of(dataset) is not None  # a record has float32
        table = predicted if is_exact else predicted.rounded()
        update(table, truth_table(dataset), len(dataset))
    else:
        _update_by_image(dataset, metric, predicted)
    return metric.compute()


def _update_by_image(dataset: Dataset, metric: Metric, predicted: ObjectTable) -> None:
    from engine.objects import Objects  # loads torch, for metrics that need it

    found, true = Objects.by_image(predicted), Objects.by_image(truth_table(dataset))
    for index in range(len(dataset)):
        meta = Meta.of(index, dataset.record(index))
        predicted_here = found.get(index, Objects.empty())
        metric.update(predicted_here, true.get(index, Objects.empty()), [meta])


def _index(dataset: Dataset) -> tuple[dict[Any, int], Mapping[str, int]]:
    """Return rows in the dataset by record id, and by file stem where only one file has it."""
    records = [dataset.record(index) for index in range(len(dataset))]
    stems = [PurePath(record.path).stem for record in records]
    count = Counter(stems)
    by_stem = {stem: index for index, stem in enumerate(stems) if count[stem] == 1}
    return {record.id: index for index, record in enumerate(records)}, by_stem
