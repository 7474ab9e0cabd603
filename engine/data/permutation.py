"""A random order of very many images that takes no memory: a permutation computed place by place.

A balanced Feistel network (Luby and Rackoff, 1988) on the least even number of bits that holds the
length; what leaves the range goes through it again (Black and Rogaway, 2002, "cycle walking").
"""

import numpy as np

ROUNDS = 6  # Luby and Rackoff prove 4 enough, for ideal round functions
# Of the finaliser of splitmix64 (Steele, Lea and Flood, 2014).
MULTIPLIERS = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)


class Permutation:
    """The numbers 0 to `length` - 1 in a random order; `order[places]` are those at some places.

    Args:
        length: at least 1.
        key: non-negative numbers that choose the order.
    """

    def __init__(self, length: int, key: tuple[int, ...]) -> None:
        self.length = length
        self.half = np.uint64(max(1, -(-(length - 1).bit_length() // 2)))  # bits of a half
        self.mask = (np.uint64(1) << self.half) - np.uint64(1)
        self.keys = np.random.default_rng(key).integers(2**64, size=ROUNDS, dtype=np.uint64)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """[N] int64, the numbers at the places [N]."""
        found = self._shuffled(places.astype(np.uint64))
        while len(outside := np.flatnonzero(found >= self.length)):
            found[outside] = self._shuffled(found[outside])
        return found.astype(np.int64)

    def _shuffled(self, values: np.ndarray) -> np.ndarray:
        """A permutation of all numbers of twice `half` bits."""
        left, right = values >> self.half, values & self.mask
        for key in self.keys:
            left, right = right, left ^ (_hash(right + key) & self.mask)
        return (left << self.half) | right


def _hash(values: np.ndarray) -> np.ndarray:
    for multiplier, shift in zip(MULTIPLIERS, (30, 27), strict=True):
        values = (values ^ (values >> np.uint64(shift))) * multiplier
    return values ^ (values >> np.uint64(31))
