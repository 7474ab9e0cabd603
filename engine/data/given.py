"""Images that a program gives one by one, as files or arrays, and their batches."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from engine.data.augment import Augment
from engine.data.files import NO_BOXES, NO_LABELS
from engine.data.image_file import UnreadableImage
from engine.data.samples import Samples
from engine.errors import UserError
from engine.record import Record
from engine.structures import Batch, Sample, collate


class Pixels:
    """A dataset of one image that is in memory.

    Args:
        image: [H, W, 3] uint8 RGB.
        id: its place among the images of a call, from 0.
    """

    def __init__(self, image: np.ndarray, id: int) -> None:
        self.pixels, self.id = image, id

    def __len__(self) -> int:
        return 1

    def record(self, index: int) -> Record:
        """The id of the image, which has no path."""
        return Record(self.id, "", NO_LABELS, NO_BOXES)

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        return self.pixels


class Given:
    """Batches of the first image of each of any number of datasets, prepared as by a `Loader`.

    Args:
        datasets: read as far as the next batch needs.
        augment: of the network; nothing is drawn at random.
        size: (height, width) of the network's input.
        batch_size: the largest batch.
    """

    merge: Any = None  # an image passes the network once

    def __init__(
        self,
        datasets: Iterable[Any],
        *,
        augment: Augment,
        size: tuple[int, int],
        batch_size: int,
    ) -> None:
        self.datasets, self.augment = datasets, augment
        self.size, self.batch_size = size, batch_size

    def __iter__(self) -> Iterator[Batch]:
        datasets = iter(self.datasets)
        while samples := [self._sample(data) for data in islice(datasets, self.batch_size)]:
            yield collate(samples)

    def _sample(self, data: Any) -> Sample:
        made = Samples(dataset=data, augment=self.augment, size=self.size, seed=0, train=False)
        sample = made[0, 0]
        if isinstance(sample, UnreadableImage):
            raise UserError(sample.args[1])
        return sample
