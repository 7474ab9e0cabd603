import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UserError
from engine.training.schedule import (
    Constant,
    Cosine,
    OneCycle,
    Plateau,
    Polynomial,
    Restarts,
    Step,
    Triangular,
)


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (Constant(), {0: 1, 0.5: 1, 1: 1}),
        # From a hundredth up: half-way (0.01 + 1) / 2.
        (Constant(warmup=0.1), {0: 0.01, 0.05: 0.505, 0.1: 1, 1: 1}),
        (Step(milestones=[0.5, 0.8]), {0: 1, 0.49: 1, 0.5: 0.1, 0.79: 0.1, 0.8: 0.01, 1: 0.01}),
        # After a warm-up of 0.2 the middle of the rest is 0.2 + 0.8 / 2 = 0.6.
        (Step(milestones=[0.5], gamma=0.5, warmup=0.2), {0.1: 0.505, 0.2: 1, 0.59: 1, 0.61: 0.5}),
        # cos 60 degrees is 1/2: 0.01 + 0.99 * 3/4 = 0.7525; at 120 degrees 0.01 + 0.99 / 4.
        (Cosine(), {0: 1, 1 / 3: 0.7525, 0.5: 0.505, 2 / 3: 0.2575, 1: 0.01}),
        (Cosine(final=0, warmup=0.5), {0: 0.01, 0.25: 0.505, 0.5: 1, 0.75: 0.5, 1: 0}),
        # Up from 1/25 = 0.04, half-way (0.04 + 1) / 2; down to 0, half-way at 0.3 + 0.7 / 2.
        (OneCycle(final=0), {0: 0.04, 0.15: 0.52, 0.3: 1, 0.65: 0.5, 1: 0}),
        (OneCycle(div=4, final=0.2, warmup=0.5), {0: 0.25, 0.25: 0.625, 0.5: 1, 0.75: 0.6, 1: 0.2}),
        (OneCycle(warmup=0, final=0), {0: 1, 0.5: 0.5, 1: 0}),
        # Cycles of 1/7, 2/7 and 4/7 begin at 0, 1/7 and 3/7; their middles are 1/14, 2/7, 5/7.
        (Restarts(final=0), {0: 1, 1 / 14: 0.5, 1 / 7: 1, 2 / 7: 0.5, 3 / 7: 1, 5 / 7: 0.5, 1: 0}),
        # Lengths 2/3 and 1/3 after a warm-up of 0.4: 0.4 to 0.8 to 1.
        (Restarts(cycles=2, cycle_mult=0.5, final=0.2, warmup=0.4), {0.6: 0.6, 0.9: 0.6, 1: 0.2}),
        (Restarts(cycles=1), {0: 1, 1 / 3: 0.7525, 1: 0.01}),  # as Cosine
        # Up from 1/32 in the first eighth; half-way up 33/64. Half-way down 1/8 + 7/16.
        (Triangular(), {0: 1 / 32, 1 / 16: 33 / 64, 1 / 8: 1, 9 / 16: 33 / 64, 1: 1 / 32}),
        # Two cycles of 0.5, up in 0.25 each: middles at 0.125 and 0.375, 0.625 and 0.875.
        (Triangular(div=4, cut_div=2, cycles=2),
         {0: 0.25, 0.125: 0.625, 0.25: 1, 0.375: 0.625, 0.5: 0.25, 0.75: 1, 0.875: 0.625, 1: 0.25}),
        (Polynomial(power=2), {0: 1, 0.5: 0.25, 0.9: 0.01, 1: 0}),
        (Polynomial(power=0.5, final=0.1, warmup=0.5), {0.5: 1, 0.875: 0.1 + 0.9 / 2, 1: 0.1}),
        (Plateau(warmup=0.1), {0: 0.01, 0.05: 0.505, 0.1: 1, 1: 1}),
    ],
)  # fmt: skip
def test_points_by_hand(schedule, points):
    assert {done: schedule(done) for done in points} == pytest.approx(points, abs=1e-9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(done=st.floats(0, 1), warmup=st.floats(0, 1))
@pytest.mark.parametrize("kind", [Constant, Cosine, OneCycle, Restarts, Triangular, Plateau])
def test_a_factor_of_the_full_rate_whatever_the_warm_up(kind, done, warmup):
    assert 0 < kind(warmup=warmup)(done) <= 1 + 1e-9


@pytest.mark.parametrize("warmup", [-0.1, 2])
def test_a_warm_up_is_a_share(warmup):
    with pytest.raises(UserError, match=f"^schedule.warmup={warmup}: expected a share"):
        Cosine(warmup=warmup)


def test_a_plateau_lowers_the_rate_each_time_patience_ends():
    plateau_factor = Plateau(patience=2, gamma=0.1).plateau_factor
    assert [plateau_factor(stale) for stale in range(6)] == [1, 1, 0.1, 1, 0.1, 1]
    assert [Cosine().plateau_factor(stale) for stale in range(6)] == [1] * 6


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Restarts, {"cycles": 0}),
        (Restarts, {"cycle_mult": 0}),
        (Triangular, {"div": 0.5}),
        (Triangular, {"cut_div": 1}),
        (Polynomial, {"power": 0}),
        (Plateau, {"patience": 0}),
        (Plateau, {"gamma": 2}),
    ],
)
def test_what_makes_no_sense_is_refused(kind, wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"^schedule.*{name}=.*: expected"):
        kind(**wrong)
