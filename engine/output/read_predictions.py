"""Reads predictions, a file (COCO results format) or a folder of text files, and scores them.

What pycocotools scores is scored. Rows of images or classes that the ground truth does not list are
passed over and counted, as is whatever else is odd: `Predictions.notes`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from reprlib import repr as shorten
from typing import Any, NamedTuple

import numpy as np
from hotcoco import mask

from engine.data.read_json import is_finite, read_json
from engine.errors import UserError
from engine.output import text_predictions
from engine.output.predictions import Category, categories
from engine.output.truth_table import truth_table
from engine.protocols import Dataset, DatasetOptions, Metric, MetricOptions
from engine.record import Meta, ObjectTable

EXPECTED = 'expected {"image_id", "category_id", "bbox": [x, y, w, h], "score"}'


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
    if Path(path).is_dir():
        texts = text_predictions.read(path, dataset, categories, box)
        found = _matched(path, texts.rows, dataset, categories)
        return found._replace(notes=texts.notes + found.notes)
    content = read_json(path)
    if not isinstance(content, list):
        raise UserError(
            f"{path}: got a {type(content).__name__}, expected a list of rows (COCO results format)"
        )
    return _matched(path, content, dataset, categories)


def _matched(
    path: str | Path, content: list[Any], dataset: Dataset, categories: Sequence[Category]
) -> Predictions:
    """The rows of a list that belong to a dataset."""
    reader = _Reader(dataset, categories)
    # what the first row has decides for all, as in pycocotools
    masks = bool(content) and isinstance(content[0], dict) and not content[0].get("bbox")
    for number, row in enumerate(content, 1):
        try:
            reader.add(row, masks, number)
        except ValueError as error:
            raise UserError(f"{path}, row {number}: {error}") from None
    return reader.predictions()


def read_table(path: str | Path, dataset: Dataset) -> ObjectTable:
    """Return the predicted objects of a file that this program wrote for the dataset."""
    return read(path, dataset, categories(dataset)).table


class _Reader:
    """Collects the rows of a file that belong to a dataset, and counts the others."""

    def __init__(self, dataset: Dataset, categories: Sequence[Category]) -> None:
        self.by_id, self.by_stem = _index(dataset)
        self.numbered = not any(isinstance(key, str) for key in self.by_id)
        self.labels = {category.id: label for label, category in enumerate(categories)}
        self.names = [category.name for category in categories]
        self.unknown, self.unlisted, self.negative = Counter(), Counter(), 0
        self.conflicts: list[str] = []
        self.rows: list[tuple[Any, ...]] = []  # image, label, x, y, w, h, score, area

    def add(self, row: Any, masks: bool, number: int) -> None:
        """Take a row; ValueError where it is none.

        Args:
            row: of the file.
            masks: whether the area is the mask's, not the box's.
            number: of the row, for messages.
        """
        try:
            image_id, category = row["image_id"], row["category_id"]
            image, label = self._image(image_id), self.labels.get(category)
        except KeyError:
            raise ValueError(f"got {shorten(row)}, {EXPECTED}") from None
        except TypeError:
            raise ValueError(
                f"got {shorten(row)}, expected image_id and category_id to be numbers or texts"
            ) from None
        if image is None:
            self.unknown[image_id] += 1
        elif label is None:
            self.unlisted[category] += 1
        else:
            self._note_conflict(row.get("category_name"), label, category, number)
            box, area = _box(row, masks)
            self.negative += min(box[2:]) < 0
            self.rows.append((image, label, *box, row["score"], area))

    def _image(self, number: Any) -> int | None:
        found = self.by_id.get(number)
        if found is not None or (self.numbered and not isinstance(number, str)):
            return found
        return self.by_stem.get(str(number))

    def _note_conflict(self, name: Any, label: int, category: Any, number: int) -> None:
        if name is not None and name != self.names[label]:
            self.conflicts.append(
                f"row {number} calls category_id {category} {name!r}, the ground truth "
                f"{self.names[label]!r}"
            )

    def predictions(self) -> Predictions:
        """What was read."""
        columns = np.array(self.rows, np.float64).reshape(-1, 8)
        image, label = columns[:, :2].T.astype(np.int64)
        table = ObjectTable(
            image, label, columns[:, 2:6], columns[:, 6], columns[:, 7], np.zeros(len(image), bool)
        )
        notes = []
        if count := len(self.conflicts):
            notes.append(
                f"names and ids of classes are in conflict in {count} rows, the ids count: "
                f"{self.conflicts[0]}"
            )
        if self.negative:
            notes.append(
                f"rows with a negative width or height: {self.negative}; they match no object"
            )
        return Predictions(table, self.unknown, self.unlisted, notes)


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


def _box(row: dict[str, Any], masks: bool) -> tuple[list[float], float]:
    """The box xywh and the area of a row; ValueError where a number is none."""
    score, box = row.get("score"), row.get("bbox")
    area = None
    if masks and "segmentation" in row:
        area, mask_box = _mask(row["segmentation"])
        box = box or mask_box
    if box is None or "score" not in row:
        raise ValueError(f"got {shorten(row)}, {EXPECTED}")
    fits = isinstance(box, list) and len(box) == 4 and all(map(is_finite, box))
    if not fits or not is_finite(score):
        raise ValueError(
            f"got bbox {shorten(box)}, score {score!r}, expected [x, y, w, h] and finite numbers"
        )
    return box, box[2] * box[3] if area is None else area


def _mask(code: Any) -> tuple[float, list[float]]:
    """Area and box xywh of a mask in COCO's run-length code."""
    try:
        return float(mask.area(code)), np.asarray(mask.to_bbox(code), float).tolist()
    except Exception as error:  # hotcoco's errors have no fixed set
        raise ValueError(
            f"got segmentation {shorten(code)} ({error}), expected run-length code, or a bbox"
        ) from None
