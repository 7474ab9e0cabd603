import copy
from itertools import islice
from math import nan

import hydra
import numpy as np
import pytest
import torch
from command_line import ROOT, ended, equal, table
from epochs import epoch

from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.lr_find.curve import Curve, _until_diverged, descent, find, start
from engine.output.run_log import Silent
from engine.training.loop import train_epoch

SMALL = ["backbone=mobilenet_v1_025", "head.levels=2", "image_size=64", "dataset.size=64",
         "dataset.train=13", "loader.batch_size=2", "loader.workers=0", "trainer.epochs=3",
         "trainer.ema=0.9", "device=cpu"]  # fmt: skip


def started(*overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return start(hydra.compose("lr_find", overrides=[*SMALL, *overrides]))


@pytest.mark.parametrize("overrides", [["optimizer=momentum"], ["trainer.accumulate=2"]])
def test_afterwards_everything_is_as_it_was_to_the_bit(overrides):
    run, loader = started(*overrides)
    for _ in islice(train_epoch(run, loader, Silent()), 2):  # in the middle of an epoch
        pass
    before = copy.deepcopy(run.state())
    curve = find(run, loader, steps=11, least=1e-4, most=1e-2)  # over several epochs
    assert len(curve.losses) == 11
    assert equal(run.state(), before)
    left_alone, again = started(*overrides)
    left_alone.restore(before, "")
    for going, batches in ((run, loader), (left_alone, again)):
        epoch(going, batches)
    assert equal(run.state(), left_alone.state())
    assert not equal(run.state()["model"], before["model"])


def test_before_the_first_step_too_and_where_the_loss_is_not_finite():
    run, loader = started("optimizer=sgd", "trainer.max_skipped=1")
    before = copy.deepcopy(run.state())
    curve = find(run, loader, steps=40, least=1e-3, most=1e30)
    assert 3 <= len(curve.losses) < 40 and np.isfinite(curve.losses).all()
    assert equal(run.state(), before)
    with pytest.raises(UserError, match="pass a smaller least="):
        find(run, loader, steps=40, least=1e25, most=1e30)
    assert equal(run.state(), before)
    assert torch.isfinite(torch.tensor(list(epoch(run, loader).values()))).all()


def test_each_step_has_its_rate_and_each_group_its_share():
    run, loader = started("finetune=discriminative", "finetune.decay=0.5")
    seen = []
    run.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    shares = [group["initial_lr"] for group in run.optimizer.param_groups]
    find(run, loader, steps=3, least=1e-6, most=1e-4)
    assert len(seen) == 3
    for rates, highest in zip(seen, (1e-6, 1e-5, 1e-4), strict=True):
        assert rates == pytest.approx([highest * s / max(shares) for s in shares])
    assert len(set(shares)) > 2


def test_a_loss_that_diverges_ends_it():
    assert list(_until_diverged([2, 1, nan, 1])) == [2, 1]
    # Running mean: 1, 1, then (0.9 * 0.19 + 0.1 x) / 0.271, 3 for x = 6.42.
    assert list(_until_diverged([1, 1, 6.4])) == [1, 1, 6.4]
    assert list(_until_diverged([1, 1, 6.5])) == [1, 1]


def curve(losses, planned=0):
    rates = 10.0 ** np.arange(-len(losses) + 1, 1)
    return Curve(rates, np.array(losses, float), planned)


def test_suggestions_by_hand():
    # Slopes over two decades: 0, -1, -3.5, -3, -0.2, 1.9, 8. The longest descent is 5 4 1.5 1. It
    # falls by 4: up to 1.4 it is at the bottom.
    found = curve([5, 5, 4, 1.5, 1, 1.3, 3, 9]).suggestions()
    by_hand = {"steepest": 1e-5, "valley": 1e-5, "minimum / 10": 1e-4, "peak": 1e-2}
    assert found == pytest.approx(by_hand)


def test_a_descent_passes_over_what_does_not_fall():
    assert descent(np.array([3.0, 9, 8, 8.5, 7, 6, 10, 5, 6])) == (1, 7)
    assert descent(np.array([1.0, 2, 3])) == (0, 0)


def test_smoothing_keeps_a_level_and_does_not_lag():
    assert curve([2] * 9, planned=100).smoothed == pytest.approx(2)
    spike = curve([0, 0, 0, 0, 1, 0, 0, 0, 0], planned=25).smoothed  # one step wide
    assert spike.argmax() == 4 and spike[3] == pytest.approx(spike[5])
    assert spike[4] / spike[3] == pytest.approx(np.exp(0.5), rel=1e-3)


def shapes(kind, steps, rng):
    """A curve of a kind over this many steps, from a loss of 2, with the noise of real ones."""
    x = np.linspace(0, 1, steps)
    change = {
        "flat": 0 * x,
        "rising": 3 * x**2,
        "flat, then diverging": np.maximum(0, x - 0.8) * 40,
        "falling": -1 / (1 + np.exp(-20 * (x - 0.6))) + np.maximum(0, x - 0.85) * 40,
    }[kind]
    return 2 + change + 0.1 * rng.standard_normal(steps)


@pytest.mark.parametrize("steps", [50, 200])
@pytest.mark.parametrize(
    ("kind", "share"),
    [("flat", 0), ("rising", 0), ("flat, then diverging", 0), ("falling", 1)],
)
def test_a_fall_is_distinguished_from_noise(kind, share, steps):
    rng = np.random.default_rng(0)
    found = [curve(shapes(kind, steps, rng), planned=steps).falls for _ in range(200)]
    assert np.mean(found) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    ("losses", "falls"),
    [
        ([2] * 9, False),  # its smoothed values differ in the last bit
        ([2, 2.5, 3], False),
        ([3, 2.5, 2], True),
        # The second differences are 1, 2, 2, 2, 2 and about 5 in size, their median 2: a noise of
        # 1.21. Of losses that stand for themselves two differ with an error of 1.71: 4 are 6.84.
        ([7, 7, 6, 7, 6, 7, 6, 0.3], False),
        ([7, 7, 6, 7, 6, 7, 6, 0.1], True),
    ],
)
def test_a_fall_by_hand(losses, falls):
    found = curve(losses, planned=1)
    assert found.falls == falls and ("Do not trust" in found.summary_lines()[1]) != falls


def command(*arguments):
    return ended("-m", "engine.lr_find", *SMALL, *arguments, cwd=ROOT)


def test_the_command_leaves_a_curve(tmp_path):
    done = command("steps=12", "most=1e-3", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "shows no fall" not in line]
    assert [line.partition(":")[0].strip() for line in lines[-6:]] == [
        "12 steps, rates 1e-06 to 0.001", "steepest", "valley", "minimum / 10", "peak", "curve",
    ]  # fmt: skip
    rows = table(tmp_path / "lr_find.csv")
    assert len(rows) == 12 and set(rows[0]) == {"lr", "loss", "smoothed"}
    assert (tmp_path / "lr_find.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("wrong", "message"), [("least=11", "0 < least < most"), ("steps=9", "at least 10")]
)
def test_a_wrong_argument_is_refused_in_one_line(wrong, message):
    done = command(wrong)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
