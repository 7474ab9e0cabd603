"""Every head with every loss that fits it learns eight pictures by heart."""

import hydra
import pytest
import torch

from engine import build
from engine.config import CONFIGS
from engine.loop import evaluate, train_epoch
from engine.train import prepare


class Silent:
    def step(self, scalars, step):
        pass


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
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=overrides)
    torch.manual_seed(0)
    device = torch.device("cpu")
    data = build.dataset(cfg, "train")
    loader = build.load(cfg, data, device, shuffle=True)
    network = build.network(cfg, len(data.classes), build.backbone(cfg))
    run = prepare(cfg, network, len(loader), device)
    for _ in range(150):
        train_epoch(run, loader, Silent())
        run.epoch += 1
    metric = build.metric(cfg, data.classes)
    scores, _ = evaluate(run.network, build.load(cfg, data, device), metric, device, run.precision)
    assert scores["mAP"] >= 0.9
