"""Batches of a dataset, made in worker processes; errors are raised in the main process."""

import atexit
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch.utils.data

from engine.data.ahead import Kept, Threads
from engine.data.augment import Augment
from engine.data.cache import Cache
from engine.data.image_file import UnreadableImage
from engine.data.sampler import Batches
from engine.data.samples import Samples
from engine.data.turns import LookAhead
from engine.distributed import processes
from engine.errors import UserError
from engine.protocols import DatasetOptions
from engine.record import defect
from engine.structures import Batch, Sample, collate

SKIP = "dataset.on_error=skip (predict.py: on_error=skip)"


def _collate(
    samples: Sequence[Sample | UnreadableImage], fill: bool
) -> tuple[Batch | None, list[UnreadableImage]]:
    """The batch of the images that could be read (None if there is none), and the errors.

    With `fill` images repeat until the batch is full, as training needs: a single image has no
    batch statistics.
    """
    good = [s for s in samples if isinstance(s, Sample)]
    if fill and good:
        good = [good[i % len(good)] for i in range(len(samples))]
    return collate(good) if good else None, [s for s in samples if isinstance(s, UnreadableImage)]


def make_batch(
    make: Callable[[list[Any]], list[Sample | UnreadableImage]], pin_memory: bool, keys: list[Any]
) -> tuple[Batch | None, list[UnreadableImage]]:
    """The batch of the samples that `make` makes by key, and the errors of those it cannot."""
    batch, errors = _collate(make(keys), fill=False)
    return batch.pin_memory() if batch and pin_memory else batch, errors


def _loader(
    samples: Samples, sampler: Batches, train: bool, workers: int, prefetch: int, pin_memory: bool
) -> torch.utils.data.DataLoader:
    ahead = DatasetOptions.requests.of(samples.dataset) > 0
    return torch.utils.data.DataLoader(
        samples,
        batch_sampler=LookAhead(sampler, max(workers, 1)) if ahead else sampler,
        collate_fn=partial(_collate, fill=train),
        num_workers=workers,
        worker_init_fn=_worker,
        prefetch_factor=prefetch if workers else None,
        persistent_workers=workers > 0 and train,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else it would draw from the network's generator
    )


class Loader:
    """Batches of one split.

    `sizes`, `sizes_every` and `limit` are those of `engine.data.sampler.Batches`. `images` is how
    many of the dataset's images are used, the first ones; None is all. Each worker prepares
    `prefetch` batches ahead. `cache_mb` is the memory for decoded images, see
    `engine.data.cache.Cache`; it does not change the batches. `whole_images` is that of `Samples`.
    An image that cannot be read is a UserError in the iteration, or with `on_error="skip"` is left
    out and listed in `dataset.report`; others of a training batch are repeated in its place.
    With `kept` the workers are threads, and the decoded images wait there for who draws them.
    """

    merge: Any = None  # of batches of passes, how an image's are made one: `engine.passes.merge`

    def __init__(
        self,
        *,
        dataset: Any,
        augment: Augment,
        size: tuple[int, int],
        batch_size: int,
        workers: int = 0,
        seed: int = 0,
        train: bool = False,
        pin_memory: bool = False,
        prefetch: int = 2,
        cache_mb: int = 0,
        sizes: Sequence[int] | None = None,
        sizes_every: int = 10,
        images: int | None = None,
        limit: int | None = None,
        whole_images: bool = False,
        kept: Kept | None = None,
    ) -> None:
        self.dataset = dataset
        self.images = min(len(dataset), images or len(dataset))
        self.batch_size = min(batch_size, self.images)  # the largest batch
        self.sampler = Batches(
            length=self.images,
            batch_size=batch_size,
            seed=seed,
            train=train,
            sizes=sizes,
            sizes_every=sizes_every,
            rank=processes.rank(),
            world=processes.world(),
            limit=limit,
        )
        self.position = 0  # batches of the epoch so far, those without a readable image included
        self.samples = Samples(
            dataset=dataset,
            augment=augment,
            size=size,
            seed=seed,
            train=train,
            cache=Cache(megabytes=cache_mb, length=len(dataset)) if cache_mb else kept,
            whole_images=whole_images,
        )
        self.loader: Any  # of pairs as of `_collate`
        if kept is None:
            self.loader = _loader(self.samples, self.sampler, train, workers, prefetch, pin_memory)
        else:
            make = partial(make_batch, self.samples.__getitems__, pin_memory)
            self.loader = Threads(make, self.sampler, workers=workers, prefetch=prefetch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        read, unread = False, ""
        for position, (batch, errors) in enumerate(self.loader, self.sampler.start + 1):
            self.position = position
            for path, reason in (error.args for error in errors):
                if DatasetOptions.on_error.of(self.dataset) != "skip":
                    raise UserError(f"{reason}; to leave such images out: {SKIP}")
                entry = defect(path, reason, "left out")
                if entry not in self.dataset.report:
                    self.dataset.report.append(entry)
                unread = unread or reason
            if batch is not None:
                read = True
                yield batch
            elif self.sampler.train and self.sampler.world > 1:  # the others wait for a gradient
                raise UserError(
                    f"{errors[0].args[1]}, nor any other of a process's share of a batch"
                )
            if self._has_ended():
                break
        if unread and not read:
            raise UserError(f"not one image could be read; the first: {unread}")

    def _has_ended(self) -> bool:
        return len(self.dataset) < self.images  # a video, before the length that it stated


def configure_worker_threads() -> None:
    """Set OpenCV's threads and glibc's memory threshold of this process for making batches."""
    cv2.setNumThreads(0)  # the workers already run in parallel
    # glibc returns large blocks to the system at once, and the page faults of the next batch cost
    # a fifth of its time. Freeing a block of nearly 32 MB raises its threshold to that size.
    np.empty(32 * 2**20 - 2**16, np.uint8)


@atexit.register
def _end_workers() -> None:
    """Kill the workers still running at exit: they ignore Python's SIGTERM, so it would hang."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes their end for a crash
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
            process.join()


def _worker(_: int) -> None:
    configure_worker_threads()
    for number in (signal.SIGINT, signal.SIGTERM):  # the main process decides when to stop
        signal.signal(number, signal.SIG_IGN)
