"""`auto` in a run's configuration: what replaces it, where it is refused, what is printed."""

import logging

import pytest
import torch
from broken_sets import CPU, Memory, composed, images, objects
from command_line import ended
from omegaconf import OmegaConf

from engine.builders import affordable, parts
from engine.builders.fit import fit
from engine.errors import UserError
from engine.structures import Preprocessing, Pretrained

FITTED = ("first_stride", "levels", "scales", "ratios")
DETECTOR = ("model=retinanet_resnet18", "backbone=mobilenet_v1_025", "head=retina_light")


def fitted(caplog, overrides, records):
    cfg = composed(tuple(overrides)).copy()
    caplog.set_level(logging.INFO)
    backbone = parts.backbone(cfg, fits=True)
    fit(cfg, Memory(records), backbone, CPU)
    return cfg, backbone


def test_a_detector_gets_its_size_and_its_anchors(caplog):
    auto = [f"head.{key}=auto" for key in FITTED]
    cfg, backbone = fitted(caplog, [*DETECTOR, "image_size=auto", *auto], objects(50))
    assert OmegaConf.to_container(cfg)["image_size"] == [
        160,
        192,
    ]  # the least: the objects are large
    assert all(cfg.head[key] != "auto" for key in FITTED)
    assert "image_size=[160,192] by the sizes of the objects" in caplog.messages[0]
    line = f"head.first_stride={cfg.head.first_stride}, head.levels={cfg.head.levels}, head.scales="
    assert caplog.messages[-1].startswith(line) and "fitted to 100 boxes" in caplog.messages[-1]
    network = parts.network(cfg, 3, backbone)
    assert len(network(torch.zeros(1, 3, 160, 192)).logits)


def test_nothing_is_read_or_printed_where_nothing_is_auto(caplog):
    fitted(caplog, [*DETECTOR, "image_size=64"], None)
    assert not caplog.messages


@pytest.mark.parametrize(("side", "size"), [(32, 64), (50, 64), (500, 64)])
def test_a_classifier_keeps_two_cells(side, size, caplog):
    records = images([0, 1, 2], size=(side, side))
    cfg, _ = fitted(caplog, ["model=resnet18"], records)
    assert cfg.image_size == size
    fine = ["model=resnet_cifar", "image_size=auto"]  # whose coarsest stride is 4
    cfg, _ = fitted(caplog, fine, records)
    assert cfg.image_size == min(side, 64)


def test_weights_of_a_classifier_leave_a_detector_its_size():
    cfg = composed((*DETECTOR, "image_size=auto")).copy()
    classifier = Pretrained(Preprocessing(), {}, None)
    assert parts._is_open(cfg, classifier) and parts._is_open(cfg, None)
    assert not parts._is_open(cfg, classifier._replace(head={"anchors": []}))
    assert not parts._is_open(composed(("model=resnet18",)), classifier)


def test_images_without_boxes_are_refused(caplog):
    with pytest.raises(UserError, match="head.scales=auto: the training images have no boxes; set"):
        fitted(caplog, [*DETECTOR, "image_size=64", "head.scales=auto"], images([0, 1]))


def test_a_head_is_not_built_of_auto():
    cfg = composed((*DETECTOR, "head.scales=auto")).copy()
    parts.check_all(cfg)
    with pytest.raises(UserError, match="head.scales=auto: train.py fits it to the training boxes"):
        parts.network(cfg, 3, parts.backbone(cfg))
    with pytest.raises(UserError, match="head.towers=auto: expected a whole number"):
        parts.check_all(composed((*DETECTOR, "head.towers=auto")))


def test_one_command_fits_trains_and_goes_on(tmp_path):
    small = ["head.scales=auto", "image_size=auto", "dataset.train=4", "dataset.val=2",
             "trainer.epochs=1", "report=false", f"hydra.run.dir={tmp_path}/run", "resume=auto",
             "loader.workers=0", *DETECTOR]  # fmt: skip
    first = ended("train.py", *small, cwd=tmp_path)
    assert first.returncode == 0 and "fitted to" in first.stdout
    again = ended("train.py", *small, cwd=tmp_path)
    assert again.returncode == 0 and "finished before" in again.stdout


def test_minutes_are_measured_with_the_anchors_that_fit(caplog, monkeypatch):
    monkeypatch.setattr(affordable, "SECONDS", 0.0)  # three steps are enough
    minutes = ["image_size=auto", "trainer.minutes=0.01", "head.anchors=auto"]
    line = ["model=yolo_v3", "backbone=mobilenet_v1_025", *minutes]
    cfg, _ = fitted(caplog, line, objects(50))
    assert len(cfg.head.anchors) == 9  # whose constructor has none
    assert list(cfg.image_size) == [160, 192] and "; the least there is, not the " in caplog.text
