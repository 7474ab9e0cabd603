"""A run stopped between any two steps goes on to the same bits."""

import hydra
import pytest
import torch
from command_line import equal
from epochs import epoch

from engine.builders import parts
from engine.builders.run import prepare
from engine.config.schema import CONFIGS, Precision
from engine.output.run_log import Silent
from engine.training.checkpointer import Checkpointer
from engine.training.loop import train_epoch
from engine.weights import checkpoint

CPU = torch.device("cpu")
SMALL = ["backbone=mobilenet_v1_025", "image_size=64", "dataset.size=64",
         "dataset.train=7", "dataset.val=2", "loader.batch_size=2", "loader.workers=0",
         "trainer.epochs=3", "trainer.ema=0.9", "device=cpu"]  # fmt: skip


def compose(*overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides=[*SMALL, *overrides])


def start(cfg):
    torch.manual_seed(0)
    loader = parts.loader(cfg, parts.dataset(cfg, "train"), CPU, shuffle=True)
    net = parts.network(cfg, len(loader.dataset.classes), parts.backbone(cfg))
    return prepare(cfg, net, len(loader), CPU), loader


def test_a_precision_that_is_handed_on_is_not_resolved_again(monkeypatch):
    cfg = compose()
    loader = parts.loader(cfg, parts.dataset(cfg, "train"), CPU)
    net = parts.network(cfg, len(loader.dataset.classes), parts.backbone(cfg))
    monkeypatch.setattr("engine.builders.run.resolve", lambda *_: pytest.fail("resolved again"))
    run = prepare(cfg, net, len(loader), CPU, Precision.bf16)
    assert run.precision is Precision.bf16


def test_a_run_goes_on_alike_where_weights_lie_otherwise_in_memory():
    # Fused optimizers go through weights and moments in the order of memory, not by strides.
    ends = []
    for after in (True, False):
        run, loader = start(compose("head.levels=2", "optimizer=adam", "trainer.precision=fp32"))
        epoch(run, loader)
        saved = run.state()
        again, loader = start(
            compose("head.levels=2", "optimizer=adam", "trainer.precision=fp32",
                    f"trainer.channels_last={after}")
        )  # fmt: skip
        again.restore(saved, "last.pt")
        epoch(again, loader)
        ends.append(again.state()["optimizer"]["state"][0]["exp_avg"])
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "overrides",
    [
        ["head.levels=2", "optimizer=momentum"],
        ["head.levels=2", "trainer.accumulate=2", "clip=norm"],
        pytest.param(  # draws in every step
            ["model=faster_rcnn_resnet18", "head.pyramid_channels=64", "head.hidden=64"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_step_is_a_place_to_stop(overrides, tmp_path):
    cfg = compose(*overrides)
    whole, loader = start(cfg)
    steps = 0
    for _ in range(2):
        for _ in train_epoch(whole, loader, Silent()):
            steps += 1
            Checkpointer(whole, cfg, loader.dataset, tmp_path)()
            (tmp_path / "last.pt").rename(tmp_path / f"{steps}.pt")
        whole.end_epoch({"epoch": whole.epoch + 1, **whole.progress.means()}, None)
    for number in range(1, steps + 1):
        again, loader = start(cfg)
        again.restore(checkpoint.load(str(tmp_path / f"{number}.pt"), CPU), "last.pt")
        while again.epoch < 2:
            epoch(again, loader)
        assert equal(again.state(), whole.state()), number
