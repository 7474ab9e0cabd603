"""Tests that need a GPU; run with `-m gpu`."""

import pytest
import torch
from command_line import SHAPES, TINY, metrics, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_trains_on_the_gpu_and_evaluates_on_either_device(precision, tmp_path):
    run("train.py", *TINY, *SHAPES, "device=cuda", f"trainer.precision={precision}",
        f"hydra.run.dir={tmp_path}/run", cwd=tmp_path)  # fmt: skip
    found = metrics(tmp_path / "run")["metrics"]
    assert all(0 <= found[key] < 1e4 for key in found if key.startswith(("mAP", "loss")))
    for device in ("cuda", "cpu"):
        run("eval.py", f"checkpoint={tmp_path}/run/checkpoints/best.pt", f"device={device}",
            "trainer.precision=fp32", f"hydra.run.dir={tmp_path}/{device}",
            cwd=tmp_path)  # fmt: skip
    losses = [metrics(tmp_path / d)["metrics"]["loss/class"] for d in ("cuda", "cpu")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_two_stages_train_on_the_gpu(precision, tmp_path):
    run("train.py", "model=faster_rcnn_resnet18", *TINY, *SHAPES, "device=cuda",
        f"trainer.precision={precision}", f"hydra.run.dir={tmp_path}", cwd=tmp_path)  # fmt: skip
    found = metrics(tmp_path)["metrics"]
    assert all(0 <= found[key] < 1e4 for key in found if key.startswith(("mAP", "loss")))
