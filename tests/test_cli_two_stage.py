"""The two-stage detector by the real command line."""

import json

import cv2
import pytest
from command_line import SHAPES, TINY, assert_resumes_exactly, metrics, run, start, table

from detect.datasets.shapes import Shapes

ARGUMENTS = ["train.py", "model=faster_rcnn_resnet18", *TINY, *SHAPES,
             "backbone=mobilenet_v1_025", "head.score=0.01"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run(*ARGUMENTS, f"hydra.run.dir={folder}", cwd=folder)
    return folder


def test_eval_and_predict_agree_with_the_run_to_the_last_bit(trained, tmp_path):
    rows = table(trained / "metrics.csv")
    terms = {"objectness", "proposal", "class", "box"}
    assert {f"train/{t}" for t in terms} | {f"val/loss/{t}" for t in terms} <= set(rows[0])
    checkpoint = f"checkpoint={trained / 'checkpoints/last.pt'}"
    run("eval.py", checkpoint, f"hydra.run.dir={tmp_path}/eval", cwd=tmp_path)
    assert metrics(tmp_path / "eval")["metrics"] == metrics(trained)["metrics"]
    shapes = Shapes(split="val", size=64, val=6)
    for i in range(6):
        path = tmp_path / f"{shapes.record(i).id}.png".replace("/", "_")
        cv2.imwrite(str(path), shapes.image(i)[..., ::-1])
    out = run("predict.py", checkpoint, f"source={tmp_path}/*.png", "show=0",
              f"hydra.run.dir={tmp_path}/predict", cwd=tmp_path)  # fmt: skip
    found, scored = (
        sorted((r["score"], *r["bbox"]) for r in json.loads((tmp_path / p).read_text()))
        for p in ("predict/predictions.json", "eval/predictions.json")
    )
    assert found == scored and len(found) > 6
    assert "6 images" in out


@pytest.mark.slow
def test_a_run_killed_and_resumed_ends_with_the_same_bits(tmp_path):
    """What is sampled comes from torch's random state, which the checkpoint holds."""
    assert_resumes_exactly([*ARGUMENTS, "trainer.epochs=2", "dataset.train=24"], 2, tmp_path)


def test_a_loss_that_does_not_fit_is_one_line_and_exit_code_2(tmp_path):
    process = start("train.py", "model=faster_rcnn_resnet18", "loss=focal",
                    f"hydra.run.dir={tmp_path}", cwd=tmp_path)  # fmt: skip
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and len(err.strip().splitlines()) == 1
    assert "they do not fit. Losses that do: faster_rcnn" in err
