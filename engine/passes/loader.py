"""Batches of the passes of images: windows of one image, or of several, in each."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from threading import Lock
from typing import Any

import numpy as np

from engine.data.ahead import Threads
from engine.data.files import NO_BOXES, NO_LABELS
from engine.data.image_file import ImageFile, UnreadableImage
from engine.data.loader import Loader, make_batch
from engine.data.mix import LazySample
from engine.data.viewport import Viewport
from engine.passes.merge import Merge
from engine.passes.windows import Pass, Passes, Size, Window
from engine.record import Meta, Record
from engine.structures import Sample

STEPS = (8, 4, 2, 1)  # an image may be decoded smaller by these


class PassLoader(Loader):
    """Batches of passes, each of one input size; `merge` makes one result of an image's objects.

    An image is decoded once for all its windows and let go with the last of them, so memory holds
    few images, and no more windows than are in the batches under way. The passes of an image stand
    in order, and their `meta` says how many there are. Objects of the truth are left out.
    """

    def __init__(self, *, passes: Passes, merge: Merge, batch_size: int, **options: Any) -> None:
        super().__init__(batch_size=batch_size, **options)
        self.passes, self.merge, self.batch_size = passes, merge, batch_size
        make = partial(make_batch, _draw, bool(options.get("pin_memory")))
        self.loader = _Restarted(self, make, options.get("workers", 0), options.get("prefetch", 2))

    def batches(self) -> Iterator[list[LazySample | UnreadableImage]]:
        """The passes of all images, in batches whose pixels are made later."""
        waiting: dict[Size, list[LazySample | UnreadableImage]] = defaultdict(list)
        for size, lazy in self._passes():
            waiting[size].append(lazy)
            if len(waiting[size]) == self.batch_size:
                yield waiting.pop(size)
        yield from waiting.values()

    def _passes(self) -> Iterator[tuple[Size, LazySample | UnreadableImage]]:
        for _, index, *_ in (key for keys in self.sampler for key in keys):
            if index >= len(self.dataset):  # a video ends before the length that it stated
                return
            try:
                image = _Shared(self.samples.image_file(index))
            except UnreadableImage as error:
                yield self.samples.size, error
                continue
            passes = self.passes.of(image.size)
            step = next(s for s in STEPS if not any(x % s for p in passes for x in p.window[:2]))
            for each in passes:
                yield each.size, self._lazy(image, each, len(passes), step)

    def _lazy(self, image: "_Shared", each: Pass, passes: int, step: int) -> LazySample:
        part = _Part(image, each.window, passes, step)
        viewport = self.samples.augment.full_viewport(part.size, each.size)
        lazy = self.samples.view(part, viewport, each.size)
        return _flipped(lazy, each.size[1]) if each.flip else lazy

    def _has_ended(self) -> bool:
        return False  # `batches` ends with the images, and its last ones are of images before


class _Restarted:
    """Makes the batches of a loader anew in every iteration."""

    def __init__(self, loader: PassLoader, make: Any, workers: int, prefetch: int) -> None:
        self.loader, self.make, self.workers, self.prefetch = loader, make, workers, prefetch

    def __iter__(self) -> Iterator[Any]:
        keys = self.loader.batches()
        return iter(Threads(self.make, keys, workers=self.workers, prefetch=self.prefetch))


class _Shared:
    """An image that threads decode once for all its passes, at each size that they need."""

    def __init__(self, image: ImageFile) -> None:
        self.image, self.size = image, image.size
        self._lock, self._pixels = Lock(), dict[int, np.ndarray]()

    def read(self, reduce: int) -> np.ndarray:
        """As of `ImageFile`."""
        with self._lock:
            if reduce not in self._pixels:
                self._pixels[reduce] = self.image.read(reduce)
            return self._pixels[reduce]


class _Part:
    """A window of an image in the place of an `ImageFile`; what is around it is not seen."""

    def __init__(self, image: _Shared, window: Window, passes: int, step: int) -> None:
        self.whole, self.window, self.passes = image, window, passes
        self.size = window[3] - window[1], window[2] - window[0]
        self.step = step if window[:2] != (0, 0) or self.size != image.size else STEPS[0]
        self.truth = Record(image.image.id, image.image.path, NO_LABELS, NO_BOXES)

    def reduction(self, viewport: Viewport, size: Size) -> int:
        """The largest `reduce` that is fine enough and puts the windows' edges between pixels."""
        return min(self.whole.image.reduction(viewport, size), self.step)

    def read(self, reduce: int) -> np.ndarray:
        """As of `ImageFile`."""
        x1, y1, x2, y2 = self.window
        pixels = self.whole.read(reduce)
        return pixels[y1 // reduce : -(-y2 // reduce), x1 // reduce : -(-x2 // reduce)]

    def meta(self, matrix: np.ndarray) -> Meta:
        """The whole image's source, and the map from its pixels to the network's input."""
        moved = matrix.copy()
        moved[:, 2] -= matrix[:, :2] @ self.window[:2]
        found = self.whole.image.meta(moved)
        return found._replace(window=self.window, passes=self.passes)


def _flipped(lazy: LazySample, width: int) -> LazySample:
    """The sample with left and right swapped."""
    matrix = lazy.meta.matrix * [[-1.0], [1.0]]
    matrix[0, 2] += width
    return lazy._replace(
        draw=lambda: np.ascontiguousarray(lazy.draw()[:, ::-1]),
        meta=lazy.meta._replace(matrix=matrix),
    )


def _draw(batch: list[LazySample | UnreadableImage]) -> list[Sample | UnreadableImage]:
    return [_sample(lazy) for lazy in batch]


def _sample(lazy: LazySample | UnreadableImage) -> Sample | UnreadableImage:
    if isinstance(lazy, UnreadableImage):
        return lazy
    try:
        return Sample(lazy.draw(), *lazy[1:])
    except UnreadableImage as error:
        return error
