"""The predictions file: the predicted objects of a run's images, in the COCO results format.

A list of rows {"image_id", "file_name", "category_id", "bbox": [x, y, w, h], "score"}, in pixels of
the original images (https://cocodataset.org/#format-results; readers of that format ignore
the additional `file_name`). No number is rounded, so a file scores exactly as its run did.

Where EXIF rotates an image, the boxes are in pixels of the upright image, unless the annotation is
in pixels of the stored one: then so are they, so that the annotation file can evaluate them.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from reprlib import repr as shorten
from typing import Any, NamedTuple

import numpy as np
import torch

from engine.data.read_json import is_finite, read_json
from engine.data.upright import as_annotated
from engine.errors import UserError
from engine.protocols import Dataset, DatasetOptions, Metric
from engine.structures import Meta, Objects, refuse_nan

NO_CLASS = 0  # category_id of a box without a class; no data set has a category 0
EXPECTED = 'expected {"image_id", "category_id", "bbox": [x, y, w, h], "score"}'


class Predictions(NamedTuple):
    """A predictions file, grouped by image."""

    objects: dict[int, Objects]  # row in the dataset -> a batch of one, in the file's order
    unknown: Counter[int | str]  # image_id that the dataset does not have -> its number of rows


def rows(predicted: Objects, meta: Sequence[Meta], categories: Sequence[int]) -> list[dict]:
    """Return the file's rows of a batch, in the order of its objects.

    Args:
        predicted: on the CPU, in pixels of the upright originals; `batch_index` is a row of `meta`.
        meta: one entry an image.
        categories: the category id of each label.
    """
    refuse_nan(predicted, meta)
    # float64 keeps the difference of two float32 numbers, so that read() gets the same box back
    boxes = as_annotated(predicted.boxes.double().numpy(), predicted.batch_index.numpy(), meta)
    boxes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])  # [M, 4] xywh
    columns = (predicted.batch_index, predicted.labels, boxes, predicted.scores)
    return [
        {
            "image_id": meta[image].id,
            "file_name": PurePath(meta[image].path).name,
            "category_id": categories[label] if label >= 0 else NO_CLASS,
            "bbox": box,
            "score": score,
        }
        for image, label, box, score in zip(*(c.tolist() for c in columns), strict=True)
    ]


class Writer:
    """Writes a predictions file batch by batch; its memory does not grow with the run.

    Args:
        path: the file; it is valid JSON after `close`.
        categories: the category id of each label.
    """

    def __init__(self, path: str | Path, categories: Sequence[int]) -> None:
        self.categories, self.count = categories, 0
        self.file = open(path, "w", encoding="utf-8")  # noqa: SIM115, close() closes it
        self.file.write("[")

    def add(self, predicted: Objects, meta: Sequence[Meta]) -> None:
        """Write the rows of a batch."""
        for row in rows(predicted, meta, self.categories):
            self.file.write((",\n" if self.count else "\n") + json.dumps(row))
            self.count += 1

    def close(self) -> None:
        """End the JSON list and close the file."""
        self.file.write("\n]\n")
        self.file.close()


def categories(dataset: Dataset) -> Sequence[int]:
    """Return the category id of each label: the dataset's if it has them (COCO), else from 1 on."""
    ids = DatasetOptions.categories.of(dataset)
    return range(1, len(dataset.classes) + 1) if ids is None else ids


def read(path: str | Path, dataset: Dataset, categories: Sequence[int]) -> Predictions:
    """Read a predictions file, of this program or another, and match its rows to a dataset.

    A row belongs to the image whose record's id is its `image_id`, else to the one whose file name
    without suffix is (if two files share that, to neither).

    Args:
        path: the file.
        dataset: with the true objects.
        categories: the category id of each label.

    Raises:
        UserError: naming the file and the row, counted from 1.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise UserError(
            f"{path}: got a {type(content).__name__}, expected a list of rows (COCO results format)"
        )
    by_id, by_stem = _index(dataset)
    labels = {category: label for label, category in enumerate(categories)}
    grouped, unknown = defaultdict(list), Counter()
    for number, row in enumerate(content, 1):
        image_id, *values = _parse(row, labels, f"{path}, row {number}")
        index = by_id.get(image_id, by_stem.get(str(image_id)))
        if index is None:
            unknown[image_id] += 1
        else:
            grouped[index].append(values)
    return Predictions({index: _objects(group) for index, group in grouped.items()}, unknown)


def score(dataset: Dataset, metric: Metric, predictions: Mapping[int, Objects]) -> dict[str, float]:
    """Return the metric's numbers for predictions, by row in the dataset; opens no image."""
    metric.reset()
    for index in range(len(dataset)):
        record = dataset.record(index)
        meta = Meta(index, record.id, record.path, record.size or (0, 0), np.eye(2, 3))
        true = Objects.from_record(record, meta.size)
        metric.update(predictions.get(index, Objects.empty()), true, [meta])
    return metric.compute()


def _index(dataset: Dataset) -> tuple[dict[int | str, int], dict[str, int]]:
    """Return rows in the dataset by record id, and by file stem where only one file has it."""
    records = [dataset.record(index) for index in range(len(dataset))]
    stems = [PurePath(record.path).stem for record in records]
    count = Counter(stems)
    by_stem = {stem: index for index, stem in enumerate(stems) if count[stem] == 1}
    return {record.id: index for index, record in enumerate(records)}, by_stem


def _parse(row: Any, labels: Mapping[int, int], where: str) -> tuple:
    """Check a row and return its image id, label, xywh box and score."""
    try:
        image_id, category, box = row["image_id"], row["category_id"], row["bbox"]
        numbers = (*box, row["score"])
    except (KeyError, TypeError):
        raise UserError(f"{where}: got {shorten(row)}, {EXPECTED}") from None
    if not isinstance(image_id, int | str):
        raise UserError(f"{where}: got image_id {image_id}, expected a number or a file name")
    if not isinstance(category, int) or category not in labels:
        known = f"one of {list(labels)}" if len(labels) <= 20 else f"one of {len(labels)} ids"
        raise UserError(f"{where}: got category_id {category}, expected {known}")
    if len(numbers) != 5 or not all(map(is_finite, numbers)):
        raise UserError(f"{where}: got bbox {box}, score {numbers[-1]}, expected finite numbers")
    if min(box[2:]) < 0:
        raise UserError(f"{where}: got bbox {box}, expected [x, y, w, h], not two corners")
    return image_id, labels[category], box, numbers[-1]


def _objects(group: list) -> Objects:
    """Return one image's objects from its (label, xywh, score)."""
    labels, boxes, scores = zip(*group, strict=True)
    xywh = np.array(boxes, np.float64)  # [M, 4]
    xyxy = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]).astype(np.float32)
    return Objects(
        torch.from_numpy(xyxy),
        torch.tensor(labels),
        scores=torch.tensor(scores, dtype=torch.float32),
    )
