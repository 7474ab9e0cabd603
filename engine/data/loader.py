"""From a dataset to batches, in worker processes, with every error carried to the main one."""

import atexit
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np
import torch.utils.data

from engine import distributed
from engine.data import mix
from engine.data.augment import Augment
from engine.data.cache import Cache
from engine.data.mix import Plan
from engine.data.picture import Picture, Unread
from engine.data.sampler import Batches, Key
from engine.data.view import View, cut, warp, warp_record
from engine.errors import UserError
from engine.structures import Batch, Sample, collate

T = TypeVar("T")

SKIP = "dataset.on_error=skip (predict.py: on_error=skip)"


class Samples(torch.utils.data.Dataset):
    """Pictures of a dataset as the network sees them; one that cannot be read is its `Unread`.

    A picture mixed with one that cannot be read is left out with it.
    `size` is (height, width) of the network's input, unless the key says a side.
    """

    def __init__(
        self,
        *,
        dataset: Any,
        augment: Augment,
        size: tuple[int, int],
        seed: int,
        train: bool,
        cache: Cache | None = None,
    ) -> None:
        self.dataset, self.augment, self.size = dataset, augment, size
        self.seed, self.train, self.cache = seed, train, cache
        if train and len(dataset):
            augment.check_boxes(dataset.record(0).boxes is not None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample | Unread:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample | Unread]:
        """Samples of a batch: all of it is planned before a pixel is made.

        In turn, the decoder would push the plans' code out of the processor's caches each time,
        which costs an eighth of the whole.
        """
        plans = [_tried(partial(self._plan, key)) for key in keys]
        return [plan if isinstance(plan, Unread) else _tried(plan) for plan in plans]

    def _plan(self, key: Key) -> Callable[[], Sample]:
        epoch, index, *side = key
        size = (side[0], side[0]) if side else self.size
        if not self.train:
            whole = self._whole(index, size)
            return lambda: Sample(whole.draw(), *whole[1:])
        rng = np.random.default_rng((self.seed, epoch, index))
        plan = self._mixed(rng, index, size)
        colour = self.augment.random_colour(rng)
        return lambda: Sample(self.augment.paint(rng, plan.draw(), colour), *plan[1:])

    def _whole(self, index: int, size: tuple[int, int]) -> Plan:
        """The picture as evaluation and prediction see it."""
        picture, augment = Picture(self.dataset, index, self.cache), self.augment
        view = augment.full_view(picture.size, size)
        plan = self._show(picture, view, size, picture.step(view, size))
        if augment.fit != "crop":
            return plan
        # To the pixel as where the weights come from, so never decoded smaller.
        return plan._replace(draw=lambda: cut(picture.read(1), view, size, augment.interpolation))

    def _mixed(self, rng: np.random.Generator, index: int, size: tuple[int, int]) -> Plan:
        """The picture, and with it another one, as drawn."""
        augment = self.augment
        plan = self._drawn(rng, index, size)
        if augment.mixup and rng.random() < augment.mixup:
            share = rng.beta(augment.mixup_alpha, augment.mixup_alpha)
            return mix.mixup(plan, self._drawn(rng, self._other(rng), size), share)
        if augment.cutmix and rng.random() < augment.cutmix:
            share = rng.beta(augment.cutmix_alpha, augment.cutmix_alpha)
            return mix.cutmix(rng, plan, self._drawn(rng, self._other(rng), size), share, size)
        return plan

    def _other(self, rng: np.random.Generator) -> int:
        return int(rng.integers(len(self.dataset)))

    def _drawn(self, rng: np.random.Generator, index: int, size: tuple[int, int]) -> Plan:
        """One picture in a drawn view, or a mosaic that begins with it."""
        if not (self.augment.mosaic and rng.random() < self.augment.mosaic):
            return self._viewed(rng, index, size, size)
        parts = mix.quarters(rng, size)
        indices = [index, *(self._other(rng) for _ in parts[1:])]
        plans = [self._viewed(rng, i, size, p.size) for i, p in zip(indices, parts, strict=True)]
        return mix.mosaic(parts, plans, size)

    def _viewed(
        self, rng: np.random.Generator, index: int, size: tuple[int, int], window: tuple[int, int]
    ) -> Plan:
        """A window of (height, width) onto a view drawn for `size`, at the view's own scale."""
        picture = Picture(self.dataset, index, self.cache)
        view = self.augment.random_view(rng, picture.size, size, picture.truth.boxes)
        if window != size:
            view = view.part((window[1] / size[1], window[0] / size[0]), rng.uniform(-1, 1, 2))
        step = picture.step(view, window)
        return self._show(picture, view.snap(picture.size, window, step), window, step)

    def _show(self, picture: Picture, view: View, size: tuple[int, int], step: int) -> Plan:
        """The picture, decoded at 1 / step, in a view of (height, width)."""
        augment, matrix = self.augment, view.matrix(size)
        truth = warp_record(picture.truth, matrix, size, augment.min_visible, augment.centre)
        scaled = matrix * (step, step, 1)
        return Plan(lambda: warp(picture.read(step), scaled, size), truth, picture.meta(matrix))


def _tried(make: Callable[[], T]) -> T | Unread:
    try:
        return make()
    except Unread as error:
        return error


def _collate(samples: Sequence[Sample | Unread], fill: bool) -> tuple[Batch | None, list[Unread]]:
    """The batch of what could be read, with `fill` repeated until it has its size.

    Training needs it: batch statistics of a single picture are none.
    """
    good = [s for s in samples if isinstance(s, Sample)]
    if fill and good:
        good = [good[i % len(good)] for i in range(len(samples))]
    return collate(good) if good else None, [s for s in samples if isinstance(s, Unread)]


class Loader:
    """Batches of one split.

    `sizes` and `sizes_every` are those of `engine.data.sampler.Batches`, of training alone; so is
    `limit`. `pictures` takes the first few of the dataset alone. Each worker prepares `prefetch`
    batches ahead. `cache_mb` is the memory for decoded pictures, see `engine.data.cache.Cache`;
    batches are the same with it and without.
    A picture that cannot be read stops the iteration with its error, or with `on_error="skip"` is
    left out and listed in `dataset.report`; others of a training batch stand in for it.
    """

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
        pictures: int | None = None,
        limit: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.pictures = min(len(dataset), pictures or len(dataset))
        self.batch_size = min(batch_size, self.pictures)  # no batch has more
        self.sampler = Batches(
            length=self.pictures,
            batch_size=batch_size,
            seed=seed,
            train=train,
            sizes=sizes,
            sizes_every=sizes_every,
            rank=distributed.rank(),
            world=distributed.world(),
            limit=limit,
        )
        self.position = 0  # batches of the epoch that have been taken, those left out included
        cache = Cache(megabytes=cache_mb, length=len(dataset)) if cache_mb else None
        self.loader = torch.utils.data.DataLoader(
            Samples(
                dataset=dataset, augment=augment, size=size, seed=seed, train=train, cache=cache
            ),
            batch_sampler=self.sampler,
            collate_fn=partial(_collate, fill=train),
            num_workers=workers,
            worker_init_fn=_worker,
            prefetch_factor=prefetch if workers else None,
            persistent_workers=workers > 0 and train,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # its draws would move the network's own
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        read, unread = False, ""
        for position, (batch, errors) in enumerate(self.loader, self.sampler.start + 1):
            self.position = position
            for path, reason in (error.args for error in errors):
                if getattr(self.dataset, "on_error", "fail") != "skip":
                    raise UserError(f"{reason}; to leave such pictures out: {SKIP}")
                entry = {"file": path, "row": None, "reason": reason, "action": "left out"}
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
        if unread and not read:
            raise UserError(f"not one picture could be read; the first: {unread}")


def settle() -> None:
    """Make this process fit for batches."""
    cv2.setNumThreads(0)  # the workers are the threads
    # glibc gives large blocks back to the system at once, and the page faults of the next batch
    # cost a fifth of its time. Freeing one of nearly 32 MB raises its limit to that size.
    np.empty(32 * 2**20 - 2**16, np.uint8)


@atexit.register
def _end_workers() -> None:
    """End workers that are left, for Python would ask them by SIGTERM and wait for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes their end for a failure
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
            process.join()


def _worker(_: int) -> None:
    settle()
    for number in (signal.SIGINT, signal.SIGTERM):  # the main process decides when to stop
        signal.signal(number, signal.SIG_IGN)
