"""One image of a dataset: its truth and its size at once, its pixels as small as will do."""

from typing import Any

import numpy as np

from engine.data.cache import Cache
from engine.data.image import decode, open_image
from engine.data.upright import turn_of, upright
from engine.data.viewport import Viewport
from engine.errors import UserError
from engine.protocols import DatasetOptions
from engine.structures import Meta


class UnreadableImage(Exception):
    """An image that cannot be read: its path, and the reason."""


class ImageFile:
    """An image and its truth, upright; `size` is its (height, width).

    Of one that its dataset says is `stored`, the file is read, and its pixels are decoded at the
    fraction asked for. Others are drawn or decoded at once, whole.

    Raises:
        Unread: here or in `read`.
    """

    def __init__(self, dataset: Any, index: int, cache: Cache | None = None) -> None:
        self.dataset, self.index, self.cache = dataset, index, cache
        record = dataset.record(index)
        self.id, self.path = record.id, record.path
        self.stored = DatasetOptions.stored.of(dataset)
        self.image: np.ndarray | None = None
        try:
            if self.stored:
                self.file = open_image(self.path)
                self.size = self.file[1].upright
            else:
                self.image = self.read(1)
                self.size = self.image.shape[:2]
            self.turn = turn_of(record, self.size)
        except UserError as error:
            raise UnreadableImage(self.path, str(error)) from error
        self.truth = upright(record, self.turn, self.size)

    def step(self, viewport: Viewport, size: tuple[int, int]) -> int:
        """Original pixels a side of a decoded one: as many as the view for `size` can do with."""
        return viewport.reduce(size) if self.stored else 1

    def read(self, reduce: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB at this fraction of the size, rounded up; not to be written to."""
        if self.image is not None:
            return self.image
        kept = None if self.cache is None else self.cache.get(self.index, reduce)
        if kept is not None:
            return kept
        try:
            one = self._decoded(reduce)
        except UserError as error:
            raise UnreadableImage(self.path, str(error)) from error
        if self.cache is not None:
            self.cache.put(self.index, reduce, one)
        return one

    def _decoded(self, reduce: int) -> np.ndarray:
        if self.stored:
            return decode(self.path, *self.file, reduce)
        return self.dataset.image(self.index)

    def meta(self, matrix: np.ndarray) -> Meta:
        """Where it came from, by the map to the network's input."""
        return Meta(self.index, self.id, self.path, self.size, matrix, self.turn)
