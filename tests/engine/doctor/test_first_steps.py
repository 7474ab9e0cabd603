"""A rate that is too high and a clock that is too short are named in the first ten steps."""

import logging

import pytest
import torch
from broken_sets import CLASSIFIER, images, made

from engine.doctor import first_steps
from engine.doctor.first_steps import FirstSteps, of_rate
from engine.output.run_log import Silent
from engine.training.loop import train_epoch

NAN = float("nan")
FAST = [*CLASSIFIER, "image_size=32", "loader.batch_size=4", "trainer.ema=null",
        "schedule=constant", "optimizer=sgd", "trainer.epochs=40"]  # fmt: skip


def trained(overrides, count=40, watch=True):
    """A run after its first epoch."""
    found = made([*FAST, *overrides], images([i % 3 for i in range(count)]))
    first = FirstSteps(found.run, found.cfg.trainer, len(found.loaders[0]))
    for _ in train_epoch(found.run, found.loaders[0], Silent()):
        if watch:
            first.watch()
    return found.run


def warned(caplog, overrides, count=40):
    caplog.set_level(logging.INFO)
    trained(overrides, count)
    return [m for m in caplog.messages if m.startswith("warning: ")]


def test_a_good_rate_and_no_clock_are_not_named(caplog):
    assert warned(caplog, ["optimizer.lr=0.01"]) == []


@pytest.mark.parametrize("count", [40, 24], ids=["ten steps", "an epoch of six"])
def test_a_rate_too_high_is_named(count, caplog):
    line = " ".join(warned(caplog, ["optimizer.lr=10", "clip=none"], count))
    assert line.startswith("warning: the loss rises from ")
    assert f"in {count // 4} steps at optimizer.lr=10; lower optimizer.lr" in line


def test_a_loss_that_is_no_number_is_named(caplog, monkeypatch):
    run = made([*FAST, "optimizer.lr=0.01"], images([i % 3 for i in range(40)]))
    broken = run.run.network.criterion.forward
    calls = iter(range(100))

    def criterion(output, assigned):
        factor = NAN if next(calls) in (2, 5) else 1.0
        return {name: term * factor for name, term in broken(output, assigned).items()}

    monkeypatch.setattr(run.run.network.criterion, "forward", criterion)
    caplog.set_level(logging.INFO)
    first = FirstSteps(run.run, run.cfg.trainer, 10)
    for _ in train_epoch(run.run, run.loaders[0], Silent()):
        first.watch()
    line = "warning: the loss of 2 of the first 10 steps is not finite at optimizer.lr=0.01; "
    assert f"{line}lower optimizer.lr, or find one: python -m engine.lr_find" in caplog.messages


@pytest.mark.parametrize(
    ("losses", "rises"),
    [
        ([2.0, 2, 2, 8, 8, 8], False),  # four times the first
        ([2.0, 2, 2, 8, 8, 8.1], True),
        ([2.0, 40, 2, 2, 2, 2], False),
        ([2.0, 41, 2, 2, 2, 2], True),  # units that died are calm
        ([0.0, 2, 2, 3, 3, 3], False),  # the first batch had no object
        ([2.0, NAN, 2, 2, 2, 2], False),
        ([2.0, 900, 900], False),  # too few to tell
    ],
)
def test_how_far_a_loss_may_rise(losses, rises):
    assert bool(of_rate(losses, 0.1)) == rises


class Watch:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += 1.0
        return self.now


def test_a_clock_that_ends_the_run_half_way_is_named(caplog, monkeypatch):
    # Read after steps 1, 2, 3 and 10: a second from step 3 to step 10. 40 epochs of 10 steps take
    # about 57 seconds; .25 minutes end it after some 100 of 400 steps.
    monkeypatch.setattr(first_steps, "time", Watch())
    line = " ".join(warned(caplog, ["trainer.minutes=0.25"]))
    assert line.startswith("warning: at 143 ms a step the clock ends this run after about 1")
    assert " of its 40 epochs, evaluations aside; trainer.minutes=0.25: raise it" in line


def test_a_clock_that_is_enough_is_not(caplog, monkeypatch):
    monkeypatch.setattr(first_steps, "time", Watch())
    assert warned(caplog, ["trainer.minutes=0.55"]) == []  # 10 + 33 / .143 = 241 of 400 steps


@pytest.mark.parametrize(("minutes", "few"), [(0.02, True), (0.15, False)])
def test_a_clock_alone_should_last_for_three_epochs(minutes, few, caplog, monkeypatch):
    # as above a second has seven steps: 10 + 8 and 10 + 63 steps, in epochs of 10
    monkeypatch.setattr(first_steps, "time", Watch())
    line = " ".join(warned(caplog, ["trainer.epochs=null", f"trainer.minutes={minutes}"]))
    assert ("the clock ends this run after about 1" in line) == few
    assert line.endswith("raise it, or lower image_size") == few


def test_watching_changes_no_bit():
    one, other = (trained(["optimizer.lr=0.01"], watch=watch) for watch in (True, False))
    states = [run.network.state_dict().values() for run in (one, other)]
    assert all(map(torch.equal, *states))


def test_a_resumed_run_is_not_watched():
    run = made(FAST, images([0, 1, 2, 0]))
    run.run.clock.step = 3
    first = FirstSteps(run.run, run.cfg.trainer, 1)
    first.watch()  # there are no losses yet, which it would read
    assert not first.sums
