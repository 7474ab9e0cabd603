import random

import numpy as np
import pytest
import torch

from engine.training.seed import random_states, restore, seed_everything


@pytest.fixture(autouse=True)
def leave_no_trace():
    before = random_states()
    yield
    restore(before)


def draws():
    """A few numbers of each generator; an odd count of normals leaves one in reserve."""
    return [
        [random.random(), random.gauss(0, 1)],
        np.random.normal(size=3).tolist(),
        torch.randn(3).tolist(),
    ]


def test_the_same_seed_gives_the_same_draws():
    seed_everything(3)
    first = draws()
    seed_everything(3)
    assert draws() == first
    seed_everything(4)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_states_go_on_exactly_also_through_a_file(tmp_path):
    seed_everything(0)
    draws()  # so that numpy and Python hold a spare normal
    path = tmp_path / "a.pt"
    torch.save(random_states(), path)
    expected = draws()
    seed_everything(99)
    restore(torch.load(path, weights_only=True))
    assert draws() == expected


def test_taking_the_states_draws_nothing():
    seed_everything(0)
    expected = draws()
    seed_everything(0)
    random_states()
    assert draws() == expected
