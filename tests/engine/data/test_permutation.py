"""The order of sets too large for a list of their images."""

import numpy as np
import pytest

from engine.data import sampler
from engine.data.permutation import Permutation
from engine.data.sampler import Batches


@pytest.mark.parametrize("length", [1, 2, 3, 5, 64, 65, 1000, 4097, 100_003])
def test_every_number_is_there_once(length):
    found = Permutation(length, (0, 1))[np.arange(length)]
    assert found.dtype == np.int64 and np.array_equal(np.sort(found), np.arange(length))


def test_it_looks_random_and_depends_on_its_key():
    length = 1 << 16
    orders = [Permutation(length, (seed, epoch))[np.arange(length)]
              for seed in range(2) for epoch in range(2)]  # fmt: skip
    for i, one in enumerate(orders):
        # Correlation of place and number, of neighbours, and of two orders: 0 +- 1 / 256.
        pairs = [(np.arange(length), one), (one[1:], one[:-1]), *((one, o) for o in orders[:i])]
        for a, b in pairs:
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
        # Numbers that keep their place: 1 expected, and of 100 bins' counts a chi-square of 99.
        assert (one == np.arange(length)).sum() < 10
        first = np.bincount(one[: length // 10] * 100 // length, minlength=100)
        assert 50 < ((first - first.mean()) ** 2 / first.mean()).sum() < 170


def test_a_huge_set_is_shared_resumed_and_cut_into_batches_as_any_other(monkeypatch):
    monkeypatch.setattr(sampler, "HUGE", 100)

    def batches(world, start=0, epoch=3, length=103):
        found = []
        for rank in range(world):
            each = Batches(length=length, batch_size=12, seed=1, train=True, rank=rank, world=world)
            each.seek(epoch, start)
            found.append([[index for _, index in batch] for batch in each])
        return [sorted(sum(parts, [])) for parts in zip(*found, strict=True)]

    whole = batches(1)
    assert len(set(sum(whole, []))) == 96 and batches(3) == whole and batches(1, 5) == whole[5:]
    assert batches(1, epoch=4) != whole
    order = np.random.default_rng((1, 3)).permutation(99)[:12]  # smaller sets keep their order
    assert batches(4, length=99)[0] == sorted(order.tolist())
