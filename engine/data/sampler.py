"""The order of the pictures: a function of (seed, epoch) alone, so that any run can be repeated."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class Batches(Sampler[list[tuple[int, int]]]):
    """Lists of (epoch, index); the sample's random draws come from (seed, epoch, index).

    Training shuffles and leaves out the last, incomplete batch, which would upset the batch
    statistics; a set smaller than one batch is one batch. Evaluation takes every picture in order.
    """

    def __init__(self, *, length: int, batch_size: int, seed: int, train: bool) -> None:
        self.length, self.batch_size, self.seed, self.train = length, batch_size, seed, train
        self.epoch = 0

    def __len__(self) -> int:
        if self.train:
            return max(self.length // self.batch_size, 1)
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.arange(self.length)
        if self.train:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chunk = order[start : start + self.batch_size]
            yield [(self.epoch, int(i)) for i in chunk]
