"""A checkpoint written by an older version goes on, is scored and predicts as it did then."""

import gzip
import json
from pathlib import Path

import cv2
import pytest
import torch
from command_line import metrics, run, table

from detect.datasets.shapes import Shapes

OLD = Path(__file__).parent / "old"


@pytest.fixture(scope="module", params=["format_4"])
def old(request, tmp_path_factory):
    """The file of a format, and the numbers that its version gave: tests/old/make.py."""
    path = tmp_path_factory.mktemp("old") / "run/checkpoints/last.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.decompress((OLD / f"{request.param}.pt.gz").read_bytes()))
    return path, json.loads((OLD / f"{request.param}.json").read_text())


def test_it_is_scored_as_it_was(old, tmp_path):
    path, numbers = old
    run("eval.py", f"checkpoint={path}", f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert metrics(tmp_path)["metrics"] == pytest.approx(numbers["evaluated"], rel=1e-4)


def test_it_goes_on_as_it_would_have(old, tmp_path):
    path, numbers = old
    run("train.py", f"resume={path}", "trainer.epochs=3", f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    row = {key: float(value) for key, value in table(tmp_path / "metrics.csv")[-1].items()}
    row.pop("seconds")
    # Batch statistics follow the number of steps since format 6, so the evaluation is another one.
    trained = {key: value for key, value in numbers["third_epoch"].items() if key[:4] != "val/"}
    assert row == pytest.approx(row | trained, rel=1e-3)
    now = torch.load(tmp_path / "checkpoints/last.pt", weights_only=True)
    before = torch.load(path, weights_only=True)
    assert (before["format"], now["epoch"]) == (4, 3) and now["format"] > 4


def test_it_predicts(old, tmp_path):
    path, _ = old
    cv2.imwrite(str(tmp_path / "a.png"), Shapes(split="val", size=32).image(0))
    run("predict.py", f"checkpoint={path}", f"source={tmp_path / 'a.png'}",
        f"hydra.run.dir={tmp_path / 'out'}", cwd=tmp_path)  # fmt: skip
    assert {row["image_id"] for row in json.loads((tmp_path / "out/predictions.json").read_text())}
