"""Batches for prediction, made by threads of this process, which share the decoded images."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import Any

from numpy import ndarray

MOST = 2**28  # bytes of images that wait to be drawn; others are decoded again


class Kept:
    """Decoded images that wait until `take` asks for them: what is drawn is decoded once.

    Stands in the place of an `engine.data.cache.Cache`, but each image is taken out once. An image
    that was decoded smaller for the network is not kept, nor one that `most` has no room for.

    Args:
        most: bytes of all images; None: any number, for frames, which are not to be had again.
    """

    def __init__(self, *, most: int | None = MOST) -> None:
        self.most, self.used = most, 0
        self._images: dict[int, ndarray] = {}
        self._lock = Lock()

    def get(self, index: int, reduce: int) -> None:
        """None: no image is prepared twice."""

    def put(self, index: int, reduce: int, image: ndarray) -> None:
        """Keep [H, W, 3] if it is the full image and there is room."""
        with self._lock:
            if reduce == 1 and (self.most is None or self.used + image.nbytes <= self.most):
                self._images[index] = image
                self.used += image.nbytes

    def take(self, index: int) -> ndarray | None:
        """[H, W, 3] uint8 RGB, which is no longer kept then; None where it was not."""
        with self._lock:
            image = self._images.pop(index, None)
            self.used -= 0 if image is None else image.nbytes
        return image


class Threads:
    """Batches in order, each made by one of `workers` threads, `prefetch` ahead of each thread.

    Without workers they are made where they are asked for. The decoder runs without Python's lock,
    so threads are as fast as processes here, and what they decode is shared.
    """

    def __init__(
        self, make: Callable[[Any], Any], keys: Iterable[Any], *, workers: int, prefetch: int
    ) -> None:
        self.make, self.keys = make, keys
        self.workers, self.prefetch = workers, prefetch

    def __iter__(self) -> Iterator[Any]:
        keys = iter(self.keys)
        if not self.workers:
            yield from map(self.make, keys)
            return
        pool = ThreadPoolExecutor(self.workers, "loader")
        try:
            pending: deque[Future[Any]] = deque()
            for key in islice(keys, self.workers * self.prefetch):
                pending.append(pool.submit(self.make, key))
            while pending:
                made = pending.popleft().result()
                pending.extend(pool.submit(self.make, key) for key in islice(keys, 1))
                yield made
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
