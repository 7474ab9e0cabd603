"""Commands that run no network do not wait for torch: these run where it cannot be imported."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import runpy, sys
sys.modules["torch"] = sys.modules["torchvision"] = None
sys.argv = sys.argv[1:]
if sys.argv[0].endswith(".py"):
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
FILES = ["eval.py", "truth=gt.json", "predictions=dt.json"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a COCO file, detections that are all right, text files and a folder of two classes."""
    path = tmp_path_factory.mktemp("without torch")
    box = {"image_id": 1, "category_id": 2, "bbox": [1, 2, 30, 40]}
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 90, "width": 90}],
        "annotations": [{**box, "id": 1, "area": 1200, "iscrowd": 0}],
        "categories": [{"id": 2, "name": "cat"}],
    }
    (path / "gt.json").write_text(json.dumps(truth))
    (path / "dt.json").write_text(json.dumps([{**box, "score": 0.5}]))
    for name, row in (("truth", "cat 1 2 31 42"), ("found", "cat 0.5 1 2 31 42")):
        (path / name).mkdir()
        (path / name / "a.txt").write_text(row + "\n")
    for split in ("train", "val"):
        for k in range(2):
            (path / "set" / split / f"c{k}").mkdir(parents=True)
            pixels = np.random.default_rng(k).integers(0, 255, (8, 8, 3), np.uint8)
            body = b"P6 8 8 255\n" + pixels.tobytes()
            (path / "set" / split / f"c{k}" / f"{split}.ppm").write_bytes(body)
    return path


def run(folder, command, *arguments):
    whole = str(ROOT / command) if command.endswith(".py") else command
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, whole, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)},
    )


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ([*FILES, "metric=coco_map", "explain=true"], "AP                       1.000000"),
        ([*FILES, "metric=voc_map", "report=true"], "mAP                      1.000000"),
        (["eval.py", "truth=truth", "predictions=found", "box=corners", "metric=voc_map"], "mAP"),
        (["engine.report", *FILES[1:]], "report: "),
        (["engine.check", "dataset=image_folder", "dataset.root=set"], "report: "),
    ],
)
def test_what_needs_no_network_runs_without_torch(folder, command, line):
    done = run(folder, *command)
    assert (done.returncode, done.stderr) == (0, "") and f"\n{line}" in f"\n{done.stdout}"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["eval.py", "checkpoint=no.pt"], "checkpoint no.pt: no such file"),
        (["predict.py", "model=resnet18", "source=no.jpg"], "source=no.jpg: no such file"),
        (["train.py", "resume=no.pt"], "checkpoint no.pt: no such file"),
        (["train.py", "dataset=voc", "dataset.root=no"], "dataset.root=no: no such folder"),
    ],
)
def test_a_wrong_path_is_answered_without_torch(folder, command, line):
    done = run(folder, *command)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {line}")
