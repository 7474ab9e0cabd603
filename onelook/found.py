"""What a network finds in one image."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from os import PathLike, fspath
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from engine.console import printable
from engine.data.image import write_rgb
from engine.output.draw import annotate
from engine.output.predictions import Category, lines
from engine.record import Meta
from engine.structures import Objects

NAMED = 5  # classes that `repr` counts
NO_NAME = "object"  # of a network that finds boxes alone


class Object(NamedTuple):
    """One object, or one class of a classified image."""

    name: str
    label: int  # the class's number from 0; -1 of a network that finds boxes alone
    score: float
    box: list[float] | None  # [x1, y1, x2, y2] in pixels of the image; None of a classifier


class Found:
    """The objects of one image, best first, or of a classifier the image's classes.

    `len()` counts them, a loop gives each as an `Object`.

    Attributes:
        id: what predictions.json calls the image: its file's stem, a frame's number behind its
            video's name, or an array's place in the list.
        path: of its file or video; None of an array or PIL image.
        size: (height, width) of the upright image, which boxes are in pixels of.
        boxes: [N, 4] float32, x1, y1, x2, y2; None of a classifier.
        scores: [N] float32.
        labels: [N] int64, the number of each one's class from 0.
        names: the class of each.
    """

    def __init__(
        self,
        *,
        objects: Objects,
        meta: Meta,
        categories: Sequence[Category],
        has_boxes: bool,
        image: Callable[[], np.ndarray],
        frames: bool = False,
    ) -> None:
        self._objects, self._meta, self._categories = objects, meta, categories
        self._image, self._frames = image, frames
        self.id, self.size = meta.id, (int(meta.size[0]), int(meta.size[1]))
        self.path = meta.path or None
        self.boxes = objects.boxes.numpy() if has_boxes else None
        self.scores, self.labels = objects.scores.numpy(), objects.labels.numpy()
        self.names = [categories[k].name if k >= 0 else NO_NAME for k in self.labels.tolist()]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Object]:
        boxes = [None] * len(self) if self.boxes is None else self.boxes.tolist()
        columns = (self.names, self.labels.tolist(), self.scores.tolist(), boxes)
        return (Object(*each) for each in zip(*columns, strict=True))

    def __repr__(self) -> str:
        name = PurePath(self.path).name if self.path else f"image {self.id}"
        if self.boxes is None:
            what = [f"{name} {100 * score:.1f}%" for name, _, score, _ in list(self)[:1]]
        else:
            counts = Counter(self.names).most_common()
            what = [f"{count} {name}" for name, count in counts[:NAMED]]
            what += [f"{sum(n for _, n in counts[NAMED:])} more"] if counts[NAMED:] else []
        return f"<Found {printable(f'{name}: ' + (', '.join(what) or 'nothing'))}>"

    @property
    def image(self) -> np.ndarray:
        """The upright image [H, W, 3] uint8 RGB, which is read anew where it is in a file."""
        return self._image()

    def draw(self, show: float = 0.4) -> np.ndarray:
        """Return the image [H, W, 3] RGB with the objects that score `show` or more drawn on it.

        As predict.py draws it, but for the map of head=attention; a small image is enlarged.
        """
        classes = [category.name for category in self._categories]
        return annotate(self.image, self._objects, classes, show)

    def save(self, path: str | PathLike[str], show: float = 0.4) -> None:
        """Write the drawn image to a file, JPEG or PNG by its suffix.

        Raises:
            UserError: another suffix, or it cannot be written.
        """
        write_rgb(fspath(path), self.draw(show))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: id, path, size, and the objects' name, label, score and box."""
        return {
            "id": self.id,
            "path": self.path,
            "size": list(self.size),
            "objects": [each._asdict() for each in self],
        }

    def to_coco(self) -> list[dict[str, Any]]:
        """Return the rows that predict.py writes of this image to predictions.json."""
        rows = lines(self._objects, [self._meta], self._categories, self._frames)
        return [json.loads(row) for row in rows]
