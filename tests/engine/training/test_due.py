"""When an epoch is evaluated."""

from types import SimpleNamespace

import pytest

from engine.training.due import is_due


def evaluated(seconds=None, count=30, **keys):
    """The epochs of a run that are evaluated; each lasts so many seconds."""
    trainer = SimpleNamespace(**{"epochs": None, "minutes": None, "eval_every": None} | keys)
    history = []
    for epoch in range(1, count + 1):
        now = epoch * (seconds or 1.0)
        due = is_due(trainer, epoch, now, history)
        history.append({"epoch": epoch, "seconds": now} | ({"val/mAP": 0.5} if due else {}))
    return [row["epoch"] for row in history if "val/mAP" in row]


def test_every_third_epoch_and_the_last():
    assert evaluated(epochs=10, eval_every=3, count=10) == [3, 6, 9, 10]


@pytest.mark.parametrize(
    ("epochs", "due"),
    [
        (20, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]),
        (3, [1, 2, 3]),
        (15, [2, 3, 5, 6, 8, 9, 11, 12, 14, 15]),
    ],
)
def test_null_is_about_ten_times_a_run(epochs, due):
    assert evaluated(epochs=epochs, count=epochs) == due


def test_null_follows_the_clock_where_it_is_faster_than_the_epochs():
    # of ten minutes each epoch takes 25 seconds: 60, 120, ... seconds are over after 3, 5, 8, 10
    by_clock = [3, 5, 8, 10, 12, 15, 17, 20, 22, 24]
    assert evaluated(seconds=25, count=24, minutes=10) == by_clock
    assert evaluated(seconds=25, count=24, minutes=10, epochs=1000) == by_clock


def test_a_long_epoch_is_evaluated_once():
    assert evaluated(seconds=130, count=4, minutes=10) == [1, 2, 3, 4]
