"""The size that minutes allow, by a clock whose steps are known."""

from types import SimpleNamespace

import pytest
import torch
from broken_sets import CPU, composed

from engine.builders import affordable, parts

DETECTOR = ("model=retinanet_resnet18", "backbone=mobilenet_v1_025", "head=retina_light",
            "trainer.precision=fp32")  # fmt: skip


@pytest.fixture
def backbone():
    return parts.backbone(composed(DETECTOR).copy())


@pytest.mark.parametrize(
    ("minutes", "images", "side"),
    # a step of 4 images takes a second: 10 minutes have 600 * .9 / .25 images of 256 pixels a side
    [(10, 100, 256 * (2160 / 6000) ** 0.5), (40, 100, 256 * (8640 / 6000) ** 0.5),
     (10, 1200, 256 * (2160 / 48_000) ** 0.5)],
)  # fmt: skip
def test_pixels_follow_minutes_and_images(minutes, images, side, backbone, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(affordable, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    cfg = composed((*DETECTOR, f"trainer.minutes={minutes}",
                    "trainer.epochs=null")).copy()  # fmt: skip
    assert affordable.side(cfg, cfg.head, 3, images, backbone, CPU) == int(side)


def test_fewer_images_are_enough_for_few_epochs():
    trainer = SimpleNamespace(epochs=20)
    assert affordable.views(trainer, 100) == 2000 and affordable.views(trainer, 1000) == 20_000


def test_nothing_of_the_run_changes(backbone, monkeypatch):
    monkeypatch.setattr(affordable, "SECONDS", 0.0)  # three steps are enough
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    random = torch.get_rng_state()
    cfg = composed((*DETECTOR, "trainer.minutes=10")).copy()
    assert affordable.side(cfg, cfg.head, 3, 100, backbone, CPU) > 0
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and backbone.training
    assert all(parameter.grad is None for parameter in backbone.parameters())
