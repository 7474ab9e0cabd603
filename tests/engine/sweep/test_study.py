"""A search whose trials are stand-ins: pruning, killing, resuming, sharing."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from command_line import ROOT

from engine.sweep.options import Options

START = (
    "import runpy, sys; from engine.sweep import process, study; study.POLL = 0.05; "
    "process.START = 'import runpy; from engine.sweep.process import end_with; end_with({}); "
    f"runpy.run_path(\"{ROOT}/tests/engine/sweep/stand_in.py\", run_name=\"__main__\")'; "
    "from engine.commands import train; train()"
)  # fmt: skip
SHARED = ROOT.parent / "shared/data"
SPACE = ["optimizer.lr=tag(log,interval(0.01,1))", "trainer.epochs=10"]


def launch(folder, *arguments, cwd=ROOT):
    """Start a sweeper, whose trials are stand-ins."""
    where = [] if folder is None else [f"hydra.sweep.dir={folder}"]
    command = [sys.executable, "-c", START, "-m", "hydra/sweeper=study", *where, *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip


def search(folder, *arguments, code=0):
    sweeper = launch(folder, *arguments)
    out, err = sweeper.communicate(timeout=120)
    assert sweeper.returncode == code, out + err
    return out, err


def jobs(folder):
    with open(folder / "leaderboard.csv", newline="") as lines:
        return list(csv.DictReader(lines))


def states(folder):
    return Counter(row["state"] for row in jobs(folder))


def trained(folder):
    """The epochs that each trial trained, in order; none is trained twice unless it was killed."""
    return {path.parent.name: path.read_text().split() for path in folder.glob("*/trained.txt")}


def test_trials_that_fall_behind_are_ended_and_the_best_is_found(tmp_path):
    out, _ = search(tmp_path, *SPACE, "hydra.sweeper.trials=16", "hydra.sweeper.sampler=random",
                    "hydra.sweeper.startup=4", "hydra.sweeper.parallel=3",
                    "optimizer.weight_decay=0.08")  # fmt: skip
    rows = jobs(tmp_path)
    assert len({row["optimizer.lr"] for row in rows}) == 16
    assert float(rows[0]["top1"]) == max(float(row["optimizer.lr"]) for row in rows)
    found = states(tmp_path)
    assert found["pruned"] >= 3 and found["done"] + found["pruned"] == 16
    assert sum(int(row["epochs"]) for row in rows) < 160
    for row in rows:
        assert row["code"] in {"done": ("0",), "pruned": ("143", "-15")}[row["state"]]
    table = [line.split() for line in out.splitlines()[1:]]  # behind the line that says where
    assert table[0][:3] == ["trial", "state", "value"]
    assert Counter(row[1] for row in table[1:17]) == found
    assert {"importance.csv", "report.html"} <= {*os.listdir(tmp_path)}


def test_a_trial_that_fails_keeps_its_reason_and_the_search_its_code(tmp_path):
    out, _ = search(tmp_path, *SPACE, "clip.max=0.5,1.0", "hydra.sweeper.trials=6",
                    "hydra.sweeper.pruner=none", "hydra.sweeper.parallel=3", code=2)  # fmt: skip
    failed = [row for row in jobs(tmp_path) if row["clip.max"] == "0.5"]
    assert failed and all(row["state"] == "failed" and row["code"] == "2" for row in failed)
    assert {row["reason"] for row in failed} == {"clip.max=0.5: this one fails"}
    assert states(tmp_path)["done"] == 6 - len(failed)
    assert f"failed: job {failed[0]['job']} (" in out
    out, _ = search(tmp_path, *SPACE, "clip.max=0.5,1.0", "hydra.sweeper.trials=6",
                    "hydra.sweeper.pruner=none")  # fmt: skip  # none fails now, some are done
    assert "0 of 6 trials left; more of them: hydra.sweeper.trials=N" in out


def test_the_same_command_goes_on_in_the_folder_that_its_overrides_name(tmp_path):
    for trials in (1, 2):
        sweeper = launch(None, *SPACE, "clip.max=0.5", f"hydra.sweeper.trials={trials}",
                         "hydra.sweeper.seed=1", cwd=tmp_path)  # fmt: skip
        out, err = sweeper.communicate(timeout=60)
        assert sweeper.returncode == 2, out + err  # every trial failed, also those of before
    (folder,) = (tmp_path / "multirun").iterdir()
    assert folder.name.startswith("study-") and states(folder) == {"failed": 2}
    assert "goes on: 0 done, 1 failed, 1 of 2 trials left" in out


def test_several_objectives_are_traded_and_unknown_ones_end_the_search(tmp_path):
    several = [*SPACE, "hydra.sweeper.trials=3", "hydra.sweeper.pruner=none",
               "hydra.sweeper.parallel=3"]  # fmt: skip
    search(tmp_path / "two", *several, "hydra.sweeper.objectives=[metric,seconds]")
    assert list(jobs(tmp_path / "two")[0])[:5] == ["job", "state", "top1", "seconds", "epochs"]
    _, err = search(tmp_path / "typo", *several, "hydra.sweeper.objectives=[top2]", code=2)
    assert "got top2; the trials have top1, loss, seconds, size" in err


def test_another_search_in_the_same_folder_is_refused(tmp_path):
    search(tmp_path, *SPACE, "hydra.sweeper.trials=1")
    _, err = search(tmp_path, *SPACE, "seed=3", "hydra.sweeper.trials=1", code=2)
    assert "has another search, with less where this one has seed=3" in err
    (tmp_path / "study.log").unlink()
    _, err = search(tmp_path, *SPACE, "hydra.sweeper.trials=1", code=2)
    assert "has trials of another study" in err


def test_a_grid_has_the_same_life_and_more_trials_go_on(tmp_path):
    grid = ["optimizer.lr=0.1,0.2,0.3", "clip.max=1,2", "hydra.sweeper.sampler=grid",
            "hydra.sweeper.pruner=none", "hydra.sweeper.parallel=3"]  # fmt: skip
    search(tmp_path, *grid, "hydra.sweeper.trials=4")
    search(tmp_path, *grid, "hydra.sweeper.trials=100")
    found = sorted(
        (int(row["job"]), row["optimizer.lr"], row["clip.max"]) for row in jobs(tmp_path)
    )
    assert [row[1:] for row in found] == [
        (lr, clip) for lr in ("0.1", "0.2", "0.3") for clip in ("1", "2")]  # fmt: skip
    assert all(epochs == [str(e) for e in range(1, 11)] for epochs in trained(tmp_path).values())


def test_two_sweepers_share_a_study_and_no_trial_is_done_twice(tmp_path):
    arguments = [*SPACE, "hydra.sweeper.trials=12", "hydra.sweeper.parallel=2"]
    both = [launch(tmp_path, *arguments) for _ in range(2)]
    shown = [sweeper.communicate(timeout=120)[0] for sweeper in both]
    assert [sweeper.returncode for sweeper in both] == [0, 0], shown
    rows = [line.split() for out in shown for line in out.splitlines() if "optimizer.lr=" in line]
    ended = [row[0] for row in rows if row[1] in ("done", "pruned")]
    assert sorted(map(int, ended)) == [*range(12)]
    assert all(len(epochs) == len(set(epochs)) for epochs in trained(tmp_path).values())
    assert len({row["optimizer.lr"] for row in jobs(tmp_path)}) == 12


def test_sigterm_saves_the_trials_and_the_same_command_goes_on(tmp_path):
    arguments = [*SPACE, "hydra.sweeper.trials=4", "hydra.sweeper.parallel=2",
                 "hydra.sweeper.pruner=none", "optimizer.weight_decay=0.1"]  # fmt: skip
    sweeper = launch(tmp_path, *arguments)
    wait_for(lambda: len(trained(tmp_path)) == 2)
    sweeper.send_signal(signal.SIGTERM)
    _, err = sweeper.communicate(timeout=60)
    assert sweeper.returncode == 143 and "the same command goes on" in err
    assert states(tmp_path) == {"stopped": 2}
    search(tmp_path, *arguments)
    assert states(tmp_path) == {"done": 4}
    assert all(epochs == [str(e) for e in range(1, 11)] for epochs in trained(tmp_path).values())


def wait_for(condition, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_kills_of_the_sweeper_and_of_trials_lose_nothing(tmp_path):
    arguments = [*SPACE, "clip.max=0.5,1,2,3,4,5", "hydra.sweeper.trials=16",
                 "hydra.sweeper.sampler=random", "hydra.sweeper.startup=4",
                 "hydra.sweeper.parallel=3", "optimizer.weight_decay=0.06"]  # fmt: skip
    kill_at_random(lambda: launch(tmp_path, *arguments), tmp_path, kills=6, seed=0)
    check_whole(tmp_path, 16, ("clip.max", "0.5"))
    rows = jobs(tmp_path)
    assert float(rows[0]["top1"]) == max(
        float(row["optimizer.lr"]) for row in rows if row["state"] != "failed")  # fmt: skip


def kill_at_random(start, folder, *, kills, seed, between=(0.3, 1.0)):
    """Kill a sweeper, or one of its trials, that often at random moments; then let it end."""
    rng, sweeper = random.Random(seed), start()
    for number in range(kills):
        time.sleep(rng.uniform(*between))
        assert sweeper.poll() is None, "it ended before it was killed"
        trials = children(sweeper.pid)
        if number % 2 and trials:
            os.kill(rng.choice(trials), signal.SIGKILL)
        else:
            sweeper.kill()
            sweeper.communicate()
            sweeper = start()
    out, err = sweeper.communicate(timeout=1800)
    assert sweeper.returncode == 2, out + err  # the code of the trials that fail


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(number) for number in file.read().split()]


def check_whole(folder, trials, failing):
    """Every trial is there once, in its true state; that of `failing`, a key and value, failed."""
    rows, (key, value) = jobs(folder), failing
    assert sorted(int(row["job"]) for row in rows) == [*range(trials)]
    for row in rows:
        run = folder / row["job"]
        if row[key] == value:
            assert row["state"] == "failed" and row["code"] == "2" and row["reason"]
        elif row["state"] == "done":
            assert float(row["top1"]) == json.loads((run / "metrics.json").read_text())[
                "primary_value"]  # fmt: skip
        else:
            assert row["state"] == "pruned" and not (run / "metrics.json").exists()


REAL = ["model=resnet_cifar", "dataset=image_folder", "backbone.base_channels=8", "seed=0",
        "trainer.epochs=10", "trainer.eval_every=1", "trainer.limit=6", "trainer.ema=0.9",
        "trainer.precision=fp32", "loader.workers=0", "report=false",
        f"dataset.root={SHARED}/cifar10_subset"]  # fmt: skip
SEARCH = ["optimizer.lr=tag(log,interval(1e-4,1e-1))", "optimizer=adam,nesterov",
          "optimizer.weight_decay=0,1e-5,1e-4,3e-4,1e-3,3e-3,1e-2,3e-2,1e-1,abc",
          "hydra.sweeper.trials=60", "hydra.sweeper.sampler=random", "hydra.sweeper.seed=23",
          "hydra.sweeper.parallel=2"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "cifar10_subset").exists(), reason="needs ../shared/data")
def test_sixty_trainings_killed_twelve_times(tmp_path):
    """Half an hour on two cores: 60 trainings with pruning and kills, and 60 without."""

    def start(folder, *arguments):
        command = [sys.executable, "train.py", "-m", "hydra/sweeper=study",
                   f"hydra.sweep.dir={tmp_path}/{folder}", *REAL, *SEARCH, *arguments]  # fmt: skip
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True)  # fmt: skip

    kill_at_random(lambda: start("killed"), tmp_path / "killed", kills=12, seed=1,
                   between=(8, 30))  # fmt: skip
    check_whole(tmp_path / "killed", 60, ("optimizer.weight_decay", "abc"))
    whole = start("whole", "hydra.sweeper.pruner=none")
    assert whole.communicate()[0] and whole.returncode == 2
    killed, every = jobs(tmp_path / "killed"), jobs(tmp_path / "whole")
    assert {row["optimizer.lr"] for row in killed} == {row["optimizer.lr"] for row in every}
    assert states(tmp_path / "killed")["failed"] == states(tmp_path / "whole")["failed"] == 6
    epochs = [sum(int(row["epochs"]) for row in rows) for rows in (killed, every)]
    assert epochs[1] == 540 and epochs[0] <= 0.6 * 540
    assert float(killed[0]["top1"]) >= 0.99 * float(every[0]["top1"])


def options(**changed):
    given = {"dir": "x", "trials": 3, "parallel": None, "devices": None, "sampler": "tpe",
             "pruner": "median", "warmup": 0.3, "startup": 8, "objectives": [], "storage": None,
             "seed": 0}  # fmt: skip
    return Options(**{**given, **changed})


@pytest.mark.parametrize(
    "changed, expected",
    [
        ({"devices": [0, 3]}, ["0", "3"]),
        ({"devices": [0, 3], "parallel": 3}, ["0", "3", "0"]),
        ({"devices": ["GPU-a"]}, ["GPU-a"]),
    ],
)
def test_each_trial_has_a_device_of_its_own(changed, expected):
    places = options(**changed).places()
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places] == expected


def test_trials_beside_each_other_share_the_processors(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert {place["OMP_NUM_THREADS"] for place in options(parallel=3).places()} == {"2"}
    assert len(options(parallel=1).places()) == 1
