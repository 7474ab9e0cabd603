"""The order of the pictures: a function of (seed, epoch) alone, so that any run can be repeated."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, ...]  # (epoch, index), and the side where training draws one


class Batches(Sampler[list[Key]]):
    """Lists of (epoch, index); the sample's random draws come from (seed, epoch, index).

    Training shuffles and leaves out the last, incomplete batch, which would upset the batch
    statistics; a set smaller than one batch is one batch. Evaluation takes every picture in order.

    Args:
        sizes: sides of the network's square input, pixels; training draws one of them for every
            `sizes_every` batches, from (seed, epoch, batch), and says (epoch, index, side). Of
            arXiv 1612.08242, 3. None leaves the size alone.
        limit: of an epoch so many batches at most.
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
    ) -> None:
        self.limit = limit
        self.length, self.batch_size, self.seed, self.train = length, batch_size, seed, train
        self.sizes, self.sizes_every = sizes if train else None, sizes_every
        self.epoch, self.start = 0, 0  # of the next iteration, and its first batch

    def __len__(self) -> int:
        whole, rest = divmod(self.length, self.batch_size)
        batches = max(whole, 1) if self.train else whole + bool(rest)
        return min(batches, self.limit or batches)

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.arange(self.length)
        if self.train:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        for batch in range(self.start, len(self)):
            chunk = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            side = self._side(batch)
            yield [(self.epoch, int(i), *side) for i in chunk]

    def _side(self, batch: int) -> tuple[int, ...]:
        if not self.sizes:
            return ()
        # The last number keeps these draws apart from those of the samples.
        rng = np.random.default_rng((self.seed, self.epoch, batch // self.sizes_every, 1))
        return (int(rng.choice(self.sizes)),)
