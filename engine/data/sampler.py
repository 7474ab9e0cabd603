"""The order of the images: a function of (seed, epoch) alone, so that any run can be repeated."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from engine.data.permutation import Permutation
from engine.errors import UserError

HUGE = 2**27  # images from which an order is computed by place: in memory it would take 1 GB
Key = tuple[int, ...]  # (epoch, index), or (epoch, index, side) where training draws a side


class Batches(Sampler[list[Key]]):
    """Yields batches as lists of (epoch, index); a sample's generator is seeded by these.

    Training shuffles and drops the last, incomplete batch, which would disturb the batch
    statistics; a set smaller than a batch is one batch. Evaluation takes every image in order.

    With several processes each gets an equal share of every training batch, but full batches of
    an evaluation in turn, since a network's output for an image may depend on the batch size.

    Args:
        batch_size: of all processes together.
        rank, world: the number of this process, and the number of processes.
        sizes: sides of the network's square input, pixels; training draws one of them for every
            `sizes_every` batches, from (seed, epoch, batch), and yields (epoch, index, side), as
            arXiv 1612.08242, 3. None keeps the input's size.
        limit: most batches in an epoch; None is no limit.
    """

    def __init__(
        self,
        *,
        length: int,
        batch_size: int,
        seed: int,
        train: bool,
        sizes: Sequence[int] | None = None,
        sizes_every: int = 10,
        limit: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        whole = min(batch_size, length)
        if train and whole % world:
            raise UserError(
                f"{whole} images a batch (loader.batch_size={batch_size}, {length} to train on) "
                f"cannot be shared equally among {world} processes: set a multiple of {world}"
            )
        self.limit = limit
        self.length, self.batch_size, self.seed, self.train = length, batch_size, seed, train
        self.sizes, self.sizes_every = sizes if train else None, sizes_every
        self.rank, self.world = rank, world
        self.epoch, self.start = 0, 0

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Start the next iteration at a batch of an epoch, counted from 0.

        Its batches are those of the full epoch, byte for byte; `len` stays that of the full epoch.
        """
        self.epoch, self.start = epoch, batch

    def __len__(self) -> int:
        return len(self._batches(0))

    def _batches(self, start: int) -> range:
        whole, rest = divmod(self.length, self.batch_size)
        batches = max(whole, 1) if self.train else whole + bool(rest)
        batches = min(batches, self.limit or batches)
        return (
            range(start, batches) if self.train else range(start + self.rank, batches, self.world)
        )

    def __iter__(self) -> Iterator[list[Key]]:
        order = self._order() if self.train else None
        first, step = (self.rank, self.world) if self.train else (0, 1)
        for batch in self._batches(self.start):
            begin = batch * self.batch_size
            places = np.arange(begin, min(begin + self.batch_size, self.length))[first::step]
            chunk = places if order is None else order[places]
            side = self._side(batch)
            yield [(self.epoch, int(i), *side) for i in chunk]

    def _order(self) -> np.ndarray | Permutation:
        """The images in the order of the epoch."""
        if self.length >= HUGE:
            return Permutation(self.length, (self.seed, self.epoch, 2))
        return np.random.default_rng((self.seed, self.epoch)).permutation(self.length)

    def _side(self, batch: int) -> tuple[int, ...]:
        if not self.sizes:
            return ()
        # The last number keeps these draws apart from those of the samples.
        rng = np.random.default_rng((self.seed, self.epoch, batch // self.sizes_every, 1))
        return (int(rng.choice(self.sizes)),)
