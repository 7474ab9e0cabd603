"""One run folder, by the real command line: who may write there, and what it holds afterwards."""

import json
import signal
import time
from pathlib import Path

import pytest
import torch
from command_line import SHAPES, TINY, assert_same_end, ended, metrics, run, start, table

TRAIN = ["train.py", *TINY, *SHAPES, "backbone=mobilenet_v1_025", "image_size=64", "head.levels=2",
         "dataset.train=24", "dataset.val=2", "trainer.ema=0.9", "loss=focal"]  # fmt: skip
RUN = [*TRAIN, "trainer.epochs=2"]
SHORT = [*RUN, "dataset.train=4"]  # where no other run is compared


def refused(*arguments: str, cwd: Path) -> str:
    """The one line of a command that is refused."""
    result = ended(*arguments, cwd=cwd)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, but for the lock."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != "run.lock")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "it"
    run(*RUN, f"hydra.run.dir={folder}", cwd=folder.parent)
    return folder


def test_the_same_command_starts_goes_on_and_ends(finished, tmp_path):
    command = [*RUN, "loader.workers=1", f"hydra.run.dir={tmp_path}/it", "resume=auto"]
    last = tmp_path / "it/checkpoints/last.pt"
    first = start(*command, cwd=tmp_path)
    while not last.exists() and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    epochs = torch.load(last, weights_only=True)["epoch"]
    out = run(*command, cwd=tmp_path)  # at once: the workers of the killed one hold no lock
    assert f"resumed after epoch {epochs} of 2" in out
    assert_same_end(finished, tmp_path / "it")
    before = files(tmp_path / "it")
    out = run(*command, cwd=tmp_path)
    assert "finished before, nothing is left to train; mAP" in out and len(out.splitlines()) == 1
    after = files(tmp_path / "it")
    assert after.pop("train.log").startswith(before.pop("train.log")) and after == before
    overrides = (tmp_path / "it/.hydra/overrides.yaml").read_text()
    assert "loss=focal" in overrides  # of the start


def test_a_results_file_that_a_kill_cost_is_written_by_the_next_start(finished, tmp_path):
    command = [*RUN, "report=true", f"hydra.run.dir={tmp_path}/it", "resume=auto"]
    full = start(*command, cwd=tmp_path, refused=["metrics.json"])
    out, err = full.communicate()
    assert full.returncode == 2, err
    assert err.startswith(
        "error: training finished; could not write metrics.json, report.html, card.md: No space"
    )
    assert not (tmp_path / "it/metrics.json").exists()
    assert "nothing is left to train" in run(*command, cwd=tmp_path)
    one, other = metrics(tmp_path / "it"), metrics(finished)
    assert one["metrics"] == other["metrics"] and one["primary_name"] == "mAP"


DIFFERENT = [
    (["loss=multibox"], "loss=multibox: this run was started with loss=focal"),
    (["seed=1"], "seed=1: this run was started with seed=0"),
    (["model=resnet18"], "model=resnet18: this run was started with model=ssd_resnet34"),
    (["optimizer.lr=3"], "optimizer.lr=3: this run was started with optimizer.lr="),
    (["overwrite=true"], "resume=auto overwrite=true: one goes on, the other starts anew"),
    (["trainer.epocs=3"], "trainer.epocs: the checkpoint's trainer has no such key"),
]


@pytest.mark.parametrize(("more", "named"), DIFFERENT, ids=[m[0] for m, _ in DIFFERENT])
def test_what_differs_from_the_checkpoint_is_named(more, named, finished):
    before = files(finished)
    command = [*RUN, *more, f"hydra.run.dir={finished}", "resume=auto"]
    assert named in refused(*command, cwd=finished.parent)
    assert files(finished) == before


def test_a_folder_with_checkpoints_is_refused_and_stays(finished, tmp_path):
    before = files(finished)
    here = f"hydra.run.dir={finished}"
    assert "has the checkpoints of a run; resume=auto" in refused(*RUN, here, cwd=tmp_path)
    last = f"{finished}/checkpoints/last.pt"
    other = f"hydra.run.dir={tmp_path}/other"
    (tmp_path / "other/checkpoints").mkdir(parents=True)
    (tmp_path / "other/checkpoints/best.pt").write_bytes(b"of another run")
    for command in (
        ["train.py", f"resume={last}", "trainer.epochs=3", other],
        ["eval.py", f"checkpoint={last}", other],
        ["eval.py", f"checkpoint={last}", here],
        ["predict.py", f"checkpoint={last}", f"source={finished}/images", here],
        ["-m", "engine.check", *SHAPES, here],
    ):
        assert "a run; resume=auto" in (err := refused(*command, cwd=tmp_path)) or (
            "the folder of a training run" in err
        ), command
    assert files(finished) == before
    assert files(tmp_path / "other") == {"checkpoints/best.pt": b"of another run"}


@pytest.fixture
def living(tmp_path):
    """A run that does not end by itself, after its first checkpoint."""
    living = start(*TRAIN, "trainer.epochs=10000", "trainer.save_every=1",
                   f"hydra.run.dir={tmp_path}/it", cwd=tmp_path)  # fmt: skip
    while not (tmp_path / "it/checkpoints/last.pt").exists() and living.poll() is None:
        time.sleep(0.02)
    yield living
    living.send_signal(signal.SIGKILL)
    living.communicate()


def test_a_living_run_keeps_its_folder(living, tmp_path):
    here = f"hydra.run.dir={tmp_path}/it"
    kept = [".hydra/config.yaml", ".hydra/overrides.yaml", "config.yaml", "data_report.json"]
    before = [(tmp_path / "it" / name).read_bytes() for name in kept]
    for more in ([], ["resume=auto"], ["overwrite=true"]):
        err = refused(*RUN, *more, here, cwd=tmp_path)
        assert f"process {living.pid} on host " in err and "hydra.run.dir" in err
    assert [(tmp_path / "it" / name).read_bytes() for name in kept] == before
    assert living.poll() is None
    torch.load(tmp_path / "it/checkpoints/last.pt", weights_only=True)


def test_overwrite_leaves_nothing_of_the_older_run(tmp_path):
    here = f"hydra.run.dir={tmp_path}/it"
    run(*SHORT, here, "dataset.val=3", cwd=tmp_path)
    names = ("notes.txt", "images/kept/mine.jpg", "checkpoints/copy.pt", "tensorboard/mine.txt")
    mine = [tmp_path / "it" / name for name in names]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (tmp_path / "it/checkpoints/.onelook-1.tmp").write_text("half")
    old = files(tmp_path / "it")
    wrong = refused(*SHORT, here, "overwrite=true", "optimizer.lr=-1", cwd=tmp_path)
    assert "lr" in wrong or "learning rate" in wrong
    assert files(tmp_path / "it") == old  # refused before anything is removed
    run(*SHORT, here, "overwrite=true", "dataset.val=1", "trainer.epochs=1", cwd=tmp_path)
    new = files(tmp_path / "it")
    assert len(table(tmp_path / "it/metrics.csv")) == 1
    assert [n for n in new if n.startswith("images/val_")] == ["images/val_000000.jpg"]
    assert sum(name.startswith("tensorboard/events") for name in new) == 1
    assert b"epoch 2 of" not in new["train.log"] and b"images train" in new["train.log"]
    assert not [name for name in new if ".onelook-" in name]
    assert {p.read_text() for p in mine} == {"mine"}


def test_a_folder_that_others_filled_keeps_their_files(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/mine.jpg").write_text("mine")
    (tmp_path / "train.txt").write_text("mine")
    run(*SHORT, f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    run(*SHORT, f"hydra.run.dir={tmp_path}", "overwrite=true", cwd=tmp_path)
    assert (tmp_path / "images/mine.jpg").read_text() == "mine"
    assert (tmp_path / "train.txt").read_text() == "mine"


def test_a_broken_checkpoint_is_named(finished, tmp_path):
    last = tmp_path / "it/checkpoints/last.pt"
    last.parent.mkdir(parents=True)
    last.write_bytes((finished / "checkpoints/last.pt").read_bytes()[:5000])
    command = [*RUN, f"hydra.run.dir={tmp_path}/it", "resume=auto"]
    assert f"{last} is broken" in refused(*command, cwd=tmp_path)
    assert last.stat().st_size == 5000


@pytest.mark.parametrize(
    ("asked", "recorded", "more", "message"),
    [
        ("cuda:7", "cuda", [], "its run trained on cuda:7, which is not usable here"),
        ("auto", "mps", [], "its run trained on mps, which is not usable here"),
        ("cuda:7", "cuda", ["device=cpu"], ""),
        ("auto", "cpu", [], ""),
    ],
)
def test_a_run_that_goes_on_keeps_its_device(asked, recorded, more, message, finished, tmp_path):
    state = torch.load(finished / "checkpoints/last.pt", weights_only=True)
    state["config"]["device"], state["device"] = asked, recorded
    path = tmp_path / "it/checkpoints/last.pt"
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    result = ended("train.py", f"resume={path}", *more, cwd=tmp_path)
    assert result.returncode == (2 if message else 0), result.stderr
    assert message in result.stderr and len(result.stderr.splitlines()) == bool(message)
    assert message or "on cpu in fp32" in result.stdout


def test_every_file_that_a_full_disk_costs_is_named_in_the_last_line(tmp_path):
    lost = ["config.yaml.no", "metrics.*", "data_report.json", "*.jpg", "*.png", "*.pt"]
    full = start(*SHORT, f"hydra.run.dir={tmp_path}/it", cwd=tmp_path, refused=lost)
    out, err = full.communicate()
    assert full.returncode == 2 and len(err.splitlines()) == 1, err
    assert err.startswith("error: training finished; could not write data_report.json")
    assert "the last checkpoint could not be written: No space left on device" in err
    for name in (
        "data_report.json",
        "anchors.png",
        "val_000000.jpg",
        "metrics.csv",
        "metrics.json",
    ):
        assert name in err or name in out, name
    left = files(tmp_path / "it")
    assert {name.split("/")[0] for name in left} == {
        ".hydra", "config.yaml", "predictions.json", "tensorboard", "train.log"}  # fmt: skip
    again = run(*SHORT, f"hydra.run.dir={tmp_path}/it", "resume=auto", cwd=tmp_path)
    assert (
        "epoch 2 of 2: train class" in again
        and ", mAP " in again
        and metrics(tmp_path / "it")["primary_name"] == "mAP"
    )


COMMANDS = {
    "config.yaml": SHORT,
    "predictions.json": ["eval.py", "checkpoint={last}"],
    "metrics.json": ["eval.py", "checkpoint={last}"],
    "val_000001.jpg": ["eval.py", "checkpoint={last}"],
    "predictions.jso?": ["predict.py", "checkpoint={last}", "source={run}/images"],
    "*.jpg": ["predict.py", "checkpoint={last}", "source={run}/images"],
    "data_report.json": ["-m", "engine.check", *SHAPES],
    "instances_*.json": ["-m", "engine.check", *SHAPES, "convert=coco"],
    "samples.jpg": ["-m", "engine.check", *SHAPES, "samples=2"],
    "lr_find.*": ["-m", "engine.lr_find", *TRAIN[1:], "steps=10"],
    "hydra.yaml": ["-m", "engine.check", *SHAPES],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_is_all_of_a_result_ends_its_command_in_one_line(name, finished, tmp_path):
    fill = {"run": finished, "last": finished / "checkpoints/last.pt"}
    command = [part.format(**fill) for part in COMMANDS[name]]
    full = start(*command, f"hydra.run.dir={tmp_path}/it", cwd=tmp_path, refused=[name])
    _, err = full.communicate()
    assert full.returncode == 2 and len(err.splitlines()) == 1, err
    assert err.startswith("error: cannot write ") and "No space left on device" in err
    assert not list((tmp_path / "it").rglob(".onelook-*"))
    for path in (tmp_path / "it").rglob("*.json"):
        json.loads(path.read_text())  # what is there is whole


def test_a_sweep_lists_the_jobs_that_failed(tmp_path):
    folder, file = f"hydra.sweep.dir={tmp_path}/sweep", tmp_path / "sweep/leaderboard.csv"
    subdir = "hydra.sweep.subdir=of/${optimizer.lr}"
    swept = ended(
        "train.py", "-m", "optimizer.lr=abc,def", *SHORT[1:], folder, subdir, cwd=tmp_path
    )
    assert swept.returncode == 2
    failed = table(file)
    assert [(row["job"], row["state"]) for row in failed] == [
        ("of/abc", "failed"), ("of/def", "failed")]  # fmt: skip
    assert "abc" in failed[0]["reason"] and failed[0]["optimizer.lr"] == "abc"
    last = swept.stdout.splitlines()[-1]
    assert last.startswith("failed: job of/def (optimizer.lr=def): ")
    swept = ended("train.py", "-m", "optimizer.lr=abc,1e-3", *SHORT[1:], folder, cwd=tmp_path)
    assert swept.returncode == 2
    assert [(row["job"], row["state"]) for row in table(file)] == [("1", "done"), ("0", "failed")]
    assert "1 done, 1 failed\n" in swept.stdout and (tmp_path / "sweep/report.html").exists()
    header, job, best, failed = swept.stdout.splitlines()[-5:-1]  # the table, then the page
    assert best.startswith(f"best: {tmp_path}/sweep/1, by ") and " optimizer.lr=" in best
    assert header.split()[:2] == ["job", "mAP"] and job.split()[0] == "1"
    assert failed.startswith("failed: job 0 (")
    ended("train.py", "-m", "optimizer.lr=1e-3", *SHORT[1:], folder, cwd=tmp_path)
    assert [row["job"] for row in table(file)] == ["0"]  # those of the older sweep are forgotten
