"""The predictions file: the predicted objects of a run's images, in the COCO results format.

A list of rows {"image_id", "file_name", "category_id", "category_name", "bbox": [x, y, w, h],
"score"}, in pixels of the original images (https://cocodataset.org/#format-results; readers of that
format ignore the additional names); those of frames have their number as "frame". No number is
rounded, so a file scores exactly as its run did.

Where EXIF rotates an image, the boxes are in pixels of the upright image, unless the annotation is
in pixels of the stored one: then so are they, so that the annotation file can evaluate them.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.data.categories import category_ids
from engine.data.upright import as_annotated
from engine.protocols import Dataset
from engine.record import Meta

if TYPE_CHECKING:
    from engine.objects import Objects
from engine.whole_file import WholeText


class Category(NamedTuple):
    """What a predictions file calls a class."""

    id: int
    name: str


def lines(
    predicted: "Objects", meta: Sequence[Meta], categories: Sequence[Category], frames: bool = False
) -> list[str]:
    """Return the file's rows of a batch as JSON, in the order of its objects.

    A box without a class has no name, and an id that no class has: 0, or where that is one, -1.

    Args:
        predicted: on the CPU, in pixels of the upright originals; `batch_index` is a row of `meta`.
        meta: one entry an image.
        categories: of each label.
        frames: whether images are frames, whose rows have the frame's number too.
    """
    predicted.refuse_nan(meta)
    # float64 keeps the difference of two float32 numbers, so that read() gets the same box back
    boxes = as_annotated(predicted.boxes.double().numpy(), predicted.batch_index.numpy(), meta)
    boxes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])  # [M, 4] xywh
    columns = (predicted.batch_index, predicted.labels, boxes, predicted.scores)
    images = [_image_keys(each, frames) for each in meta]
    classes = [
        f'"category_id": {json.dumps(each.id)}, "category_name": {json.dumps(each.name)}'
        for each in categories
    ]  # and, for the label -1, the last:
    classes.append(f'"category_id": {-1 if 0 in [each.id for each in categories] else 0}')
    # as json.dumps writes a dict, in half the time
    return [
        f'{{{images[image]}, {classes[label]}, "bbox": {box}, "score": {score!r}}}'
        for image, label, box, score in zip(*(c.tolist() for c in columns), strict=True)
    ]


def _image_keys(meta: Meta, frames: bool) -> str:
    names = {"image_id": meta.id, "file_name": PurePath(meta.path).name}
    return json.dumps(names | ({"frame": meta.index} if frames else {}))[1:-1]


class Writer(WholeText):
    """Writes a predictions file batch by batch; its memory does not grow with the run.

    Args:
        path: the file; it is there after `close`.
        categories: of each label.
        frames: whether images are frames.
    """

    def __init__(
        self, path: str | Path, categories: Sequence[Category], frames: bool = False
    ) -> None:
        super().__init__(path)
        self.categories, self.frames, self.count = categories, frames, 0
        self.file.write("[")

    def add(self, predicted: "Objects", meta: Sequence[Meta]) -> None:
        """Write the rows of a batch."""
        if rows := lines(predicted, meta, self.categories, self.frames):
            self.file.write((",\n" if self.count else "\n") + ",\n".join(rows))
            self.count += len(rows)

    def end(self) -> str:
        """Return the end of the JSON list."""
        return "\n]\n"


def write(
    path: Path, dataset: Dataset, predicted: Iterable[tuple["Objects", Sequence[Meta]]]
) -> None:
    """Write the predictions file of a dataset's images."""
    with Writer(path, categories(dataset)) as writer:
        for objects, meta in predicted:
            writer.add(objects, meta)


def categories(dataset: Dataset) -> list[Category]:
    """Return the category of each label; its id is the dataset's (COCO), else counts from 1."""
    return named(dataset.classes, category_ids(dataset))


def named(classes: Sequence[str], ids: Iterable[int]) -> list[Category]:
    """Return the categories with these names and ids."""
    return [Category(*pair) for pair in zip(ids, classes, strict=True)]
