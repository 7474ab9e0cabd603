"""Signals, a full disk and NaN, through the real command line."""

import signal
import time

import pytest
from command_line import ROOT, SHAPES, TINY, assert_same_end, run, start, table

RUN = ["train.py", *TINY, *SHAPES, "backbone=mobilenet_v1_025", "image_size=64", "head.levels=2",
       "dataset.train=24", "dataset.val=2", "trainer.epochs=2", "trainer.ema=0.9"]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(*RUN, f"hydra.run.dir={folder}", cwd=folder)
    return folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_step_and_the_run_goes_on(number, code, whole, tmp_path):
    stopped = start(
        *RUN, "loader.workers=1", "trainer.save_every=1", f"hydra.run.dir={tmp_path}/it",
        cwd=tmp_path,
    )  # fmt: skip
    while not (tmp_path / "it/checkpoints/last.pt").exists() and stopped.poll() is None:
        time.sleep(0.02)
    stopped.send_signal(number)
    _, err = stopped.communicate()
    assert stopped.returncode == code, err
    assert f"resume={tmp_path}/it/checkpoints/last.pt" in err and len(err.splitlines()) == 1
    run("train.py", "resume=auto", f"hydra.run.dir={tmp_path}/it", cwd=tmp_path)
    assert_same_end(whole, tmp_path / "it")


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(tmp_path):
    full = start(*RUN, f"hydra.run.dir={tmp_path}/it", cwd=tmp_path, largest=500_000)
    out, err = full.communicate()
    assert full.returncode == 2 and "the last checkpoint could not be written" in err, err
    assert out.count("no checkpoint written at step") == 2
    assert len(table(tmp_path / "it/metrics.csv")) == 2
    assert not list((tmp_path / "it/checkpoints").iterdir())


OVERFLOWING = """
from classify.losses import Focal

class Overflowing(Focal):
    def forward(self, output, assigned):
        terms = super().forward(output, assigned)
        return terms | {"class": terms["class"] * 1e38 * 1e38}
"""


def test_a_loss_that_overflows_is_named_and_ends_the_run(tmp_path):
    (tmp_path / "losses.py").write_text(OVERFLOWING)
    broken = start(*RUN, "loss._target_=losses.Overflowing", "trainer.max_skipped=3",
                   "trainer.epochs=9", f"hydra.run.dir={tmp_path}/it", cwd=tmp_path,
                   environment={"PYTHONPATH": f"{ROOT}:{tmp_path}"})  # fmt: skip
    out, err = broken.communicate()
    assert broken.returncode == 2, err
    assert "not finite 3 times in a row" in err and "look at these images" in err
    assert "step 1 skipped" in out and (tmp_path / "it/checkpoints/last.pt").exists()
