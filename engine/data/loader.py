"""From a dataset to batches, in worker processes, with every error carried to the main one."""

import signal
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch.utils.data

from engine.data.augment import Augment, cut, recolour, warp, warp_objects
from engine.data.sampler import Batches, Key
from engine.errors import UserError
from engine.structures import Batch, Meta, Objects, Sample, collate

SKIP = "dataset.on_error=skip (predict.py: on_error=skip)"


class Unread(NamedTuple):
    """A picture that cannot be read."""

    path: str
    reason: str


class Samples(torch.utils.data.Dataset):
    """Pictures of a dataset as the network sees them; one that cannot be read is its error.

    `size` is (height, width) of the network's input, unless the key says a side.
    """

    def __init__(
        self, *, dataset: Any, augment: Augment, size: tuple[int, int], seed: int, train: bool
    ) -> None:
        self.dataset, self.augment, self.size = dataset, augment, size
        self.seed, self.train = seed, train

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample | Unread:
        epoch, index, *side = key
        size = (side[0], side[0]) if side else self.size
        try:
            image = self.dataset.image(index)
        except UserError as error:
            return Unread(self.dataset.record(index).path, str(error))
        record = self.dataset.record(index)
        height, width = image.shape[:2]
        if self.train:
            rng = np.random.default_rng((self.seed, epoch, index))
            view = self.augment.random_view(rng, (height, width), size)
        else:
            rng, view = None, self.augment.full_view((height, width), size)
        matrix = view.matrix(size)
        objects = Objects.from_record(record, (height, width))
        if record.boxes is None:  # the whole picture stays the whole picture
            whole = torch.tensor([0.0, 0.0, size[1], size[0]]).expand(len(objects), 4)
            objects = Objects(whole, objects.labels, ignore=objects.ignore)
        else:
            objects = warp_objects(objects, matrix, size, self.augment.min_visible)
        if rng is not None:
            image = warp(image, matrix, size)
            image = recolour(image, self.augment.random_colour(rng))
            self.augment.blot(rng, image)
        elif self.augment.fit == "crop":  # to the pixel as where the weights come from
            image = cut(image, view, size, self.augment.interpolation)
        else:
            image = warp(image, matrix, size)
        meta = Meta(index, record.id, record.path, (height, width), matrix)
        return Sample(image, objects, meta)


def _collate(samples: Sequence[Sample | Unread]) -> tuple[Batch | None, list[Unread]]:
    good = [s for s in samples if isinstance(s, Sample)]
    return collate(good) if good else None, [s for s in samples if isinstance(s, Unread)]


class Loader:
    """Batches of one split.

    `sizes` and `sizes_every` are those of `engine.data.sampler.Batches`, of training alone; so is
    `limit`. `pictures` takes the first few of the dataset alone.
    A picture that cannot be read stops the iteration with its error, or with `on_error="skip"` is
    left out and listed in `dataset.report`.
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
        sizes: Sequence[int] | None = None,
        sizes_every: int = 10,
        pictures: int | None = None,
        limit: int | None = None,
    ) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.pictures = min(len(dataset), pictures or len(dataset))
        self.sampler = Batches(
            length=self.pictures,
            batch_size=batch_size,
            seed=seed,
            train=train,
            sizes=sizes,
            sizes_every=sizes_every,
            limit=limit,
        )
        self.position = 0  # batches of the epoch that have been taken, those left out included
        self.loader = torch.utils.data.DataLoader(
            Samples(dataset=dataset, augment=augment, size=size, seed=seed, train=train),
            batch_sampler=self.sampler,
            collate_fn=_collate,
            num_workers=workers,
            worker_init_fn=_one_thread,
            persistent_workers=workers > 0 and train,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # its draws would move the network's own
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        for position, (batch, errors) in enumerate(self.loader, self.sampler.start + 1):
            self.position = position
            for path, reason in errors:
                if getattr(self.dataset, "on_error", "fail") != "skip":
                    raise UserError(f"{reason}; to leave such pictures out: {SKIP}")
                entry = {"file": path, "row": None, "reason": reason, "action": "left out"}
                if entry not in self.dataset.report:
                    self.dataset.report.append(entry)
            if batch is not None:
                yield batch


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)  # the workers are the threads
    for number in (signal.SIGINT, signal.SIGTERM):  # the main process decides when to stop
        signal.signal(number, signal.SIG_IGN)
