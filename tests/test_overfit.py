"""Heads learn eight pictures by heart; every preset trains with every loss that fits it."""

import hydra
import pytest
import torch
from epochs import epoch

from engine import build
from engine.config import CONFIGS
from engine.errors import UserError
from engine.loop import evaluate
from engine.train import prepare

CPU = torch.device("cpu")


def compose(*overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides))


def prepared(cfg):
    """A run at its first step, and its pictures."""
    torch.manual_seed(0)
    data = build.dataset(cfg, "train")
    loader = build.load(cfg, data, CPU, shuffle=True)
    network = build.network(cfg, len(data.classes), build.backbone(cfg))
    return prepare(cfg, network, len(loader), CPU), loader


LIGHTER = {
    "yolo_v1": ["head.width=128", "head.hidden=512", "head.dropout=0"],
    "yolo_v2": ["head.width=128"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "loss"),
    [
        ("ssd", "focal"),
        ("ssd", "bce"),
        ("ssd", "multibox"),
        ("yolo_v3", "yolo_v3"),
        ("faster_rcnn_small", "faster_rcnn"),
        ("yolo_v2", "yolo_v2"),
        ("yolo_v1", "yolo_v1"),
        ("retina_light", "focal_retina"),
    ],
)
def test_eight_pictures_by_heart(head, loss):
    overrides = [f"head={head}", f"loss={loss}", "backbone=resnet18", "image_size=128",
                 "augment=none", "dataset.train=8", "loader.workers=0", "schedule=constant",
                 "trainer.epochs=150", "trainer.ema=null", "device=cpu"]  # fmt: skip
    overrides += LIGHTER.get(head, [])
    cfg = compose(*overrides)
    run, loader = prepared(cfg)
    for _ in range(150):
        epoch(run, loader)
    data = loader.dataset
    metric = build.metric(cfg, data.classes)
    scores, _ = evaluate(run.network, build.load(cfg, data, CPU), metric, CPU, run.precision)
    assert scores["mAP"] >= 0.9


LOSSES = sorted(p.stem for p in (CONFIGS / "loss").glob("*.yaml"))
DETECTORS = sorted(
    p.stem
    for p in (CONFIGS / "model").glob("*.yaml")
    if "override /metric: voc_map" in p.read_text()
)
SIZES = {"ssd300_vgg16": 300, "ssd512_vgg16": 512, "ssdlite_mobilenet_v3": 320, "yolo_v1": 224}


def test_there_are_detectors():
    assert len(DETECTORS) >= 12


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", DETECTORS)
def test_a_preset_trains_a_step_with_every_loss_that_fits(model, loss):
    cfg = compose(f"model={model}", f"loss={loss}", f"image_size={SIZES.get(model, 128)}",
                  "dataset=shapes", "dataset.train=2", "loader.batch_size=2", "loader.workers=0",
                  "trainer.epochs=1", "trainer.ema=null", "device=cpu")  # fmt: skip
    try:
        build.check_all(cfg)
    except UserError as error:
        assert "they do not fit. Losses that do: " in str(error)
        assert compose(f"model={model}").loss != cfg.loss  # not the preset's own
        return
    run, loader = prepared(cfg)
    means = epoch(run, loader)
    assert run.clock.step == 1 and all(torch.tensor(list(means.values())).isfinite())
