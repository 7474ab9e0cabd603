"""Trackers by clients that record their calls, or fail: neither MLflow nor W&B is installed."""

import errno
import json
import logging
import os
import sys
import types
from pathlib import Path

import pytest
from layers import ROOT
from omegaconf import OmegaConf

from engine.distributed import processes
from engine.errors import Stopped, UserError
from engine.output import trackers
from engine.output.mlflow_tracker import MLflow
from engine.output.run_log import RunLog
from engine.output.trackers import CSV, BestEffort, NoTracker
from engine.output.wandb_tracker import WandB
from engine.whole_file import NotWritten

CONFIG = {"seed": 0, "head": {"coder": {"variances": [0.1, 0.2]}, "note": {}}, "a+b": None}


class Recorder:
    """Records every call, and returns itself from each but those of `returns`."""

    def __init__(self, **returns):
        self.calls, self.returns = [], returns

    def __getattr__(self, name):
        def call(*arguments, **named):
            self.calls.append((name, arguments, named))
            return self.returns.get(name, self)

        return call

    def named(self, name):
        return [(a, n) for called, a, n in self.calls if called == name]


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "onelook")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def mlflow(monkeypatch):
    """A fake client, of a server without experiments."""
    run = types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))
    server = Recorder(get_experiment_by_name=None, create_experiment="7", create_run=run)
    module = types.ModuleType("mlflow")
    module.MlflowClient = lambda uri: setattr(server, "uri", uri) or server
    module.entities = types.SimpleNamespace(Param=lambda *a: a, Metric=lambda *a: a)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    for name in ("TIMEOUT", "MAX_RETRIES"):  # set, so that what a tracker sets does not stay
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "3")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
    return server


@pytest.fixture
def wandb(monkeypatch):
    """A fake module; its `init` returns the recorder."""
    run = Recorder()
    run.id, run.summary = "w1", {}
    module = types.ModuleType("wandb")
    module.init = lambda **named: run.calls.append(("init", (), named)) or run
    module.Settings = lambda **named: named
    monkeypatch.setitem(sys.modules, "wandb", module)
    return run


def test_mlflow_gets_a_run_with_its_configuration(mlflow, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2.5)
    tracker = MLflow(experiment="cells", uri="http://host", timeout=9)
    assert (
        tracker.start(CONFIG, Path("/runs/a"), "runs/a", None) == "r1"
        and mlflow.uri == "http://host"
    )
    limits = [os.environ[f"MLFLOW_HTTP_REQUEST_{name}"] for name in ("TIMEOUT", "MAX_RETRIES")]
    assert limits == ["9", "3"]  # the user's own stays
    assert mlflow.named("create_experiment") == [(("cells",), {})]
    assert mlflow.named("create_run") == [(("7",), {"run_name": "runs/a"})]
    params = [("seed", "0"), ("head.coder.variances", "[0.1, 0.2]"), ("head.note", "{}"),
              ("a_b", "None")]  # fmt: skip
    assert mlflow.named("log_batch") == [(("r1",), {"params": params})]
    mlflow.calls.clear()
    tracker.scalars({"epoch": 1, "val/AP/Köln (1)": 0.5}, 30)
    tracker.file(Path("/runs/a/metrics.json"))
    tracker.finish({"best/mAP": 0.5})
    assert mlflow.calls == [
        ("log_batch", ("r1",), {"metrics": [
            ("epoch", 1, 2500, 30), ("val/AP/Köln _1_", 0.5, 2500, 30)]}),
        ("log_artifact", ("r1", "/runs/a/metrics.json"), {}),
        ("log_batch", ("r1",), {"metrics": [("best/mAP", 0.5, 2500, 0)]}),
        ("set_terminated", ("r1", "FINISHED"), {}),
    ]  # fmt: skip


def test_mlflow_takes_a_hundred_values_a_request(mlflow):
    tracker = MLflow(experiment="cells")
    tracker.start({}, Path("/runs/a"), "a", None)
    tracker.scalars({f"val/AP/{i}": 0.0 for i in range(201)}, 1)
    assert [len(named["metrics"]) for _, named in mlflow.named("log_batch")] == [100, 100, 1]


def test_mlflow_goes_on_with_a_run_and_leaves_its_parameters(mlflow):
    tracker = MLflow(experiment="cells")
    assert tracker.start(CONFIG, Path("/runs/a"), "a", "r0") == "r0"
    tracker.finish(None)
    assert mlflow.calls == [("update_run", ("r0",), {"status": "RUNNING"}),
                            ("set_terminated", ("r0", "KILLED"), {})]  # fmt: skip


@pytest.mark.parametrize(("last", "name"), [(None, "runs/a"), ("w0", None)])
def test_wandb_begins_a_run_or_goes_on(last, name, wandb):
    tracker = WandB(project="cells", timeout=9, upload_timeout=99)
    assert tracker.start(CONFIG, Path("/runs/a"), "runs/a", last) == "w1"
    assert wandb.calls[0][2] == {
        "project": "cells", "entity": None, "dir": "/runs/a", "config": CONFIG, "id": last,
        "name": name, "resume": "allow", "allow_val_change": True, "reinit": "finish_previous",
        "settings": {"init_timeout": 9, "login_timeout": 9, "finish_timeout": 99},
    }  # fmt: skip


def test_wandb_gets_numbers_by_step_files_and_results(wandb):
    tracker = WandB(project="cells")
    tracker.start(CONFIG, Path("/runs/a"), "a", None)
    wandb.calls.clear()
    tracker.scalars({"step/loss": 0.5}, 20)
    tracker.file(Path("/runs/a/checkpoints/best.pt"))
    tracker.file(Path("/runs/a/report.html"))
    tracker.finish({"best/mAP": 0.5})
    assert wandb.summary == {"best/mAP": 0.5}
    tracker.finish(None)
    assert wandb.calls == [
        ("log", ({"step/loss": 0.5, "step": 20},), {}),
        ("log_artifact", ("/runs/a/checkpoints/best.pt",), {"type": "model"}),
        ("log_artifact", ("/runs/a/report.html",), {"type": "result"}),
        ("finish", (), {"exit_code": 0}),
        ("finish", (), {"exit_code": 1}),
    ]


@pytest.mark.parametrize(("make", "name", "package"), [
    (lambda: MLflow(experiment="a"), "mlflow", "mlflow-skinny"),
    (lambda: WandB(project="a"), "wandb", "wandb"),
])  # fmt: skip
def test_a_client_that_is_not_installed_is_one_line(make, name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError) as caught:
        make()
    message = str(caught.value)
    assert message.startswith(f"tracker={name} needs {name} (") and "\n" not in message
    assert message.endswith(f": pip install {package}, or tracker=none")


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_an_adapter_has_at_most_forty_lines(kind):
    text = (ROOT / f"engine/output/{kind}_tracker.py").read_text(encoding="utf-8")
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 40


class Flaky(NoTracker):
    """Fails at one call as a client whose server is dead, and records all."""

    def __init__(self, at=None):
        self.at, self.calls = at, []

    def _do(self, name, *arguments):
        self.calls.append((name, *arguments))
        if name == self.at:
            raise ConnectionError("no answer\nfrom http://host")
        return "f1" if name == "start" else None

    def start(self, config, folder, name, last):
        return self._do("start", name, last)

    def scalars(self, values, step):
        self._do("scalars", values, step)

    def file(self, path):
        self._do("file", path.name)

    def finish(self, results):
        self._do("finish", results)


def run_log(folder, tracker, **more):
    return RunLog(folder, OmegaConf.create({"seed": 0}), tracker, **more)


def whole_run(folder, tracker):
    """What a run of one epoch gives a tracker."""
    log = run_log(folder, tracker)
    with log.tracked():
        log.step({"loss": 2.0}, 1)
        log.scalars({"epoch": 1, "train/class": 2.0}, 2)
        for name in ("metrics.json", "checkpoints/best.pt"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        log.finish({"best/mAP": 0.5})
    return log


EVERY = [("start", "runs/a", None), ("scalars", {"step/loss": 2.0}, 1),
         ("scalars", {"epoch": 1, "train/class": 2.0}, 2), ("file", "metrics.json"),
         ("file", "best.pt"), ("finish", {"best/mAP": 0.5})]  # fmt: skip


@pytest.mark.parametrize(("at", "calls"), [
    (None, 6), ("start", 1), ("scalars", 2), ("file", 4), ("finish", 6),
])  # fmt: skip
def test_an_error_is_one_line_and_the_last_call(at, calls, tmp_path, lines):
    tracker, folder = Flaky(at), tmp_path / "runs/a"
    folder.mkdir(parents=True)
    log = whole_run(folder, tracker)
    assert tracker.calls == EVERY[:calls] and log.missing == {}
    left_out = (
        "tracker: Flaky is left out from here on, training goes on (ConnectionError: no answer "
        "from http://host)"
    )
    begun = ["tracker: Flaky has this run as f1"] * (at != "start")
    assert lines() == begun + [left_out] * (at is not None)
    assert (folder / "metrics.csv").read_text() == "epoch,train/class\n1,2.0\n"
    assert list((folder / "tensorboard").iterdir())


def test_a_run_that_ends_early_has_no_results(tmp_path):
    tracker = Flaky()
    with pytest.raises(Stopped), run_log(tmp_path, tracker).tracked():
        raise Stopped(15, "stopped")
    assert [name for name, *_ in tracker.calls] == ["start", "finish"]
    assert tracker.calls[-1] == ("finish", None)


def test_a_run_goes_on_in_the_tracker_of_its_folder(tmp_path, lines):
    first, second = Flaky(), Flaky()
    for tracker in (first, second):
        BestEffort(tracker).start({}, tmp_path, "a", None)
    assert [t.calls for t in (first, second)] == [[("start", "a", None)], [("start", "a", "f1")]]
    assert len(lines()) == 2


@pytest.mark.parametrize("record", [
    "", "[]", "{", '{"tracker": 1}', '{"tracker": "another.Kind", "id": "x"}', "5",
    f'{{"tracker": "{__name__}.Flaky"}}',
])  # fmt: skip
def test_a_record_of_something_else_is_not_gone_on_with(record, tmp_path):
    (tmp_path / trackers.RECORD).write_text(record)
    tracker = Flaky()
    BestEffort(tracker).start({}, tmp_path, "a", None)
    assert tracker.calls == [("start", "a", None)]
    assert json.loads((tmp_path / trackers.RECORD).read_text())["id"] == "f1"


def test_no_tracker_leaves_no_record(tmp_path, lines):
    whole_run(tmp_path, NoTracker())
    assert not (tmp_path / trackers.RECORD).exists() and lines() == []


def test_a_table_keeps_the_rows_before_and_what_a_full_disk_refused(tmp_path, monkeypatch):
    table = CSV(tmp_path / "a.csv", [{"epoch": 1}])
    table.scalars({"step/loss": 1.0}, 3)
    assert not table.path.exists()
    with monkeypatch.context() as disk, pytest.raises(NotWritten):
        disk.setattr(os, "replace", full)
        table.scalars({"epoch": 2, "lr": 0.5}, 4)
    assert not table.path.exists()
    table.finish(None)
    assert table.path.read_text() == "epoch,lr\n1,\n2,0.5\n"
    table.path.unlink()
    table.scalars({"step/loss": 1.0}, 5)
    assert not table.path.exists()  # a step writes nothing anew


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_table_that_is_still_unwritten_at_the_end_is_missing(tmp_path, monkeypatch):
    log = run_log(tmp_path, NoTracker())
    (tmp_path / "metrics.json").touch()
    monkeypatch.setattr(trackers, "write_whole", lambda path, _: raised(path))
    log.scalars({"epoch": 1}, 4)
    log.step({"loss": 1.0}, 5)
    log.finish({"best/mAP": 0.5})
    assert log.missing == {"metrics.csv": "disk full"}


def raised(path):
    raise NotWritten(path, "disk full")


def test_other_processes_than_the_first_call_no_tracker(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "rank", lambda: 1)
    tracker = Flaky()
    whole_run(tmp_path, tracker)
    assert tracker.calls == [] and not (tmp_path / "metrics.csv").exists()
