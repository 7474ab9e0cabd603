"""`tracker=mlflow` through the real command line, with a client that writes down its calls."""

import json

import pytest
from command_line import ROOT, SHAPES, TINY, metrics, start, table

RUN = ["train.py", *TINY, *SHAPES, "tracker=mlflow", "tracker.experiment=cells"]
CLIENT = """
import json, types


def write(name, *arguments):
    with open("calls.jsonl", "a") as file:
        file.write(json.dumps([name, *arguments]) + "\\n")


class MlflowClient:
    def __init__(self, uri):
        pass

    def get_experiment_by_name(self, name):
        return types.SimpleNamespace(experiment_id="7")

    def create_run(self, experiment, run_name):
        write("create_run", run_name)
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

    def update_run(self, run, status):
        write("update_run", run, status)

    def log_batch(self, run, metrics=(), params=()):
        write("log_batch", dict(map(tuple, params)), [m[:2] for m in metrics])

    def log_artifact(self, run, path):
        write("log_artifact", path)

    def set_terminated(self, run, status):
        write("set_terminated", status)


class entities:
    Param = Metric = staticmethod(lambda *values: values)
"""
DEAD = CLIENT.replace('write("log_batch"', 'raise ConnectionError("refused")  # (')


def ended(*line, cwd, client=None):
    """Exit code and the lines on the console of a command, with this text as the module mlflow."""
    if client is not None:
        (cwd / "mlflow.py").write_text(client)
    path = f"{ROOT}:{cwd}" if client is not None else str(ROOT)
    process = start(*line, f"hydra.run.dir={cwd}/runs/a", cwd=cwd, environment={"PYTHONPATH": path})
    out, err = process.communicate(timeout=300)
    return process.returncode, out.splitlines(), err.splitlines()


def calls(folder):
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    code, out, err = ended(*RUN, "report=true", cwd=folder, client=CLIENT)
    assert code == 0, err
    assert "tracker: MLflow has this run as r1" in out
    return folder, calls(folder)


def rows(made):
    return [dict(values) for name, *rest in made if name == "log_batch" for values in rest[1:]]


def test_a_tracker_gets_what_the_folder_has(tracked):
    folder, made = tracked
    names = [name for name, *_ in made]
    assert names[0] == "create_run" and names[-1] == "set_terminated" and made[0][1] == "runs/a"
    params = {key: value for name, *rest in made if name == "log_batch"
              for key, value in rest[0].items()}  # fmt: skip
    assert params["trainer.epochs"] == "1" and params["dataset._target_"].endswith("Shapes")
    (row,) = (values for values in rows(made) if "epoch" in values)
    (written,) = table(folder / "runs/a/metrics.csv")
    assert {key: float(value) for key, value in written.items()} == row
    results = next(values for values in rows(made) if "best/epoch" in values)
    numbers = metrics(folder / "runs/a")["metrics"]
    assert results == {"best/epoch": 1, **{f"best/{k}": v for k, v in numbers.items()}}
    files = [f"{folder}/runs/a/{name}" for name in
             ("metrics.json", "report.html", "checkpoints/best.pt")]  # fmt: skip
    assert [path for name, path, *_ in made if name == "log_artifact"] == files
    assert made[-1] == ["set_terminated", "FINISHED"]


def test_its_checkpoint_is_scored_without_the_client(tracked, tmp_path):
    folder, _ = tracked
    best = folder / "runs/a/checkpoints/best.pt"
    code, _, err = ended("eval.py", f"checkpoint={best}", cwd=tmp_path, client="raise RuntimeError")
    assert code == 0, err


def test_a_resumed_run_goes_on_in_its_tracker(tracked):
    folder, before = tracked
    line = ["train.py", "resume=auto", "trainer.epochs=2"]
    code, _, err = ended(*line, cwd=folder, client=CLIENT)
    assert code == 0, err
    made = calls(folder)[len(before) :]
    assert made[0] == ["update_run", "r1", "RUNNING"] and made[-1] == ["set_terminated", "FINISHED"]
    assert [values["epoch"] for values in rows(made) if "epoch" in values] == [2]
    assert "create_run" not in [name for name, *_ in made]


def test_the_tracker_of_a_checkpoint_from_elsewhere_is_not_started(tracked, tmp_path):
    folder, _ = tracked
    last = folder / "runs/a/checkpoints/last.pt"
    code, out, err = ended("train.py", f"resume={last}", "trainer.epochs=2", cwd=tmp_path,
                           client=CLIENT)  # fmt: skip
    assert code == 0 and not (tmp_path / "calls.jsonl").exists(), err
    (line,) = [line for line in out if line.startswith("tracker: ")]
    assert "MLflow of the checkpoint is left out" in line
    code, _, err = ended("train.py", f"resume={last}", "trainer.epochs=2", "tracker=mlflow",
                         "overwrite=true", cwd=tmp_path, client=CLIENT)  # fmt: skip
    assert code == 0 and calls(tmp_path)[0] == ["create_run", "runs/a"], err


def test_a_resumed_run_may_leave_its_tracker(tracked):
    folder, _ = tracked
    before = len(calls(folder))
    line = ["train.py", "resume=auto", "trainer.epochs=3", "tracker=none"]
    code, _, err = ended(*line, cwd=folder, client="raise ImportError")
    assert code == 0 and len(calls(folder)) == before, err


def test_a_dead_server_costs_one_line(tmp_path):
    code, out, err = ended(*RUN, cwd=tmp_path, client=DEAD)
    assert (code, err) == (0, [])
    assert [line for line in out if "tracker" in line] == [
        "tracker: MLflow is left out from here on, training goes on (ConnectionError: refused)"
    ]
    assert [name for name, *_ in calls(tmp_path)] == ["create_run"]
    assert (tmp_path / "runs/a/metrics.json").exists()


def test_a_client_that_is_not_there_is_one_line_before_anything_is_written(tmp_path):
    code, _, err = ended(*RUN, cwd=tmp_path, client="raise ImportError('no numpy')")
    assert code == 2 and err == [
        "error: tracker=mlflow needs mlflow (no numpy): pip install mlflow-skinny, or tracker=none"
    ]
    assert not (tmp_path / "runs/a/config.yaml").exists()
