"""One image of a dataset: truth and size are read first, pixels later, at a reduced size."""

from typing import Any

import numpy as np

from engine.data.ahead import Kept
from engine.data.cache import Cache
from engine.data.image import decode
from engine.data.stored import open_stored
from engine.data.upright import turn_of, upright
from engine.data.viewport import Viewport
from engine.errors import UserError
from engine.protocols import DatasetOptions
from engine.record import Meta


class UnreadableImage(Exception):
    """An image that cannot be read: its path, and the reason."""


class ImageFile:
    """An image and its truth, upright; `size` is its (height, width).

    Where the dataset is `stored`, the file's bytes are read here, and `read` decodes them at the
    reduced size it is asked for. Otherwise the dataset makes the full image here.

    Raises:
        UnreadableImage: here or in `read`.
    """

    def __init__(self, dataset: Any, index: int, cache: Cache | Kept | None = None) -> None:
        self.dataset, self.index, self.cache = dataset, index, cache
        record = dataset.record(index)
        self.id, self.path = record.id, record.path
        self.stored = DatasetOptions.stored.of(dataset)
        self.pixels: np.ndarray | None = None
        try:
            if self.stored:
                self.opened = open_stored(dataset, index, record)  # bytes and header
                self.size = self.opened[1].upright
            else:
                self.pixels = self.read(1)
                self.size = self.pixels.shape[:2]
            header = (lambda: self.opened[1]) if self.stored else None
            self.turn = turn_of(record, self.size, header)
        except UserError as error:
            raise UnreadableImage(self.path, str(error)) from error
        self.truth = upright(record, self.turn, self.size)

    def reduction(self, viewport: Viewport, size: tuple[int, int]) -> int:
        """The largest `reduce` of `read` that is fine enough for the viewport at `size`."""
        return viewport.reduce(size) if self.stored else 1

    def read(self, reduce: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB at 1 / reduce of the size, rounded up; not to be written to."""
        if self.pixels is not None:
            return self.pixels
        cached = None if self.cache is None else self.cache.get(self.index, reduce)
        if cached is not None:
            return cached
        try:
            pixels = self._decode(reduce)
        except UserError as error:
            raise UnreadableImage(self.path, str(error)) from error
        if self.cache is not None:
            self.cache.put(self.index, reduce, pixels)
        return pixels

    def _decode(self, reduce: int) -> np.ndarray:
        if self.stored:
            return decode(self.path, *self.opened, reduce)
        return self.dataset.image(self.index)

    def meta(self, matrix: np.ndarray) -> Meta:
        """The image's origin, and the map [2, 3] from its pixels to the network's input."""
        return Meta(self.index, self.id, self.path, self.size, matrix, self.turn)
