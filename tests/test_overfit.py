"""Presets overfit eight images; every preset trains with every loss that fits it."""

import hydra
import pytest
import torch
from epochs import epoch

from engine.builders import judged_parts, parts
from engine.builders.run import prepare
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.training.loop import evaluate_network

CPU = torch.device("cpu")


def compose(*overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides))


def prepared(cfg):
    """A run at its first step, and its images."""
    torch.manual_seed(0)
    data = parts.dataset(cfg, "train")
    loader = parts.loader(cfg, data, CPU, shuffle=True)
    network = parts.network(cfg, len(data.classes), parts.backbone(cfg))
    return prepare(cfg, network, len(loader), CPU), loader


LOSSES = sorted(p.stem for p in (CONFIGS / "loss").glob("*.yaml"))
DETECTORS = sorted(
    p.stem for p in (CONFIGS / "model").glob("*.yaml") if "_base/classifier" not in p.read_text()
)
assert len(DETECTORS) == 13
SIDE, EPOCHS = 128, 150
# Each preset's own network: where 128 pixels or a rate of .0005 does not do, what does.
EIGHT = {
    "ssd300_vgg16": ["image_size=300", "loader.batch_size=2", "optimizer.lr=0.0001"],
    "ssd512_vgg16": ["image_size=384", "loader.batch_size=2", "optimizer.lr=0.0001"],
    # its batch normalisation forgets its first statistics by 3 % a step
    "ssdlite_mobilenet_v3": [
        "image_size=224",
        "schedule=cosine",
        "optimizer.lr=0.001",
        "trainer.epochs=400",
    ],
    "retinanet_resnet50": ["optimizer.lr=0.0003"],
    "faster_rcnn_resnet50": ["optimizer.lr=0.0003"],
    "yolo_v1": ["image_size=224", "optimizer.lr=0.0001", "head.dropout=0"],
}


@pytest.fixture(scope="session")
def eight(shared_data, tmp_path_factory):
    """VOC's layout over eight real images, 24 objects of ten classes."""
    voc = shared_data / "voc2012_sub/VOCdevkit/VOC2012"
    folder = tmp_path_factory.mktemp("eight")
    names = (voc / "ImageSets/Main/train.txt").read_text().split()[:8]
    for part, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (folder / part).mkdir()
        for name in names:
            (folder / part / f"{name}.{suffix}").symlink_to(voc / part / f"{name}.{suffix}")
    (folder / "ImageSets/Main").mkdir(parents=True)
    for split in ("train", "val"):  # without a list of val, images of train would be held out
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("model", DETECTORS)
def test_every_preset_learns_eight_real_images(model, eight):
    cfg = compose(f"model={model}", "dataset=voc", f"dataset.root={eight}", f"image_size={SIDE}",
                  "augment=none", "loader.workers=0", "loader.batch_size=8", "schedule=constant",
                  "optimizer.lr=0.0005", f"trainer.epochs={EPOCHS}", "trainer.ema=null",
                  "device=cpu", *EIGHT.get(model, []))  # fmt: skip
    run, loader = prepared(cfg)
    data = loader.dataset
    metric = judged_parts.metric(cfg, data.classes)
    for number in range(1, cfg.trainer.epochs + 1):
        epoch(run, loader)
        if number % 10 == 0:
            again = parts.loader(cfg, data, CPU)
            scores, _ = evaluate_network(run.network, again, metric, CPU, run.precision)
            if scores["mAP"] >= 0.9:
                return
    pytest.fail(f"mAP {scores['mAP']:.3f} after {number} epochs, expected 0.9")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "loss"), [("ssd", "bce"), ("ssd", "multibox"), ("retina_light", "focal_retina")]
)
def test_other_heads_and_losses_learn_eight_drawn_images(head, loss):
    overrides = [f"head={head}", f"loss={loss}", "backbone=resnet18", "image_size=128",
                 "augment=none", "dataset.train=8", "loader.workers=0", "schedule=constant",
                 "trainer.epochs=150", "trainer.ema=null", "device=cpu"]  # fmt: skip
    cfg = compose(*overrides)
    run, loader = prepared(cfg)
    for _ in range(150):
        epoch(run, loader)
    data = loader.dataset
    metric = judged_parts.metric(cfg, data.classes)
    scores, _ = evaluate_network(
        run.network, parts.loader(cfg, data, CPU), metric, CPU, run.precision
    )
    assert scores["mAP"] >= 0.9


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
        parts.check_all(cfg)
    except UserError as error:
        assert "they do not fit. Losses that do: " in str(error)
        assert compose(f"model={model}").loss != cfg.loss  # not the preset's own
        return
    run, loader = prepared(cfg)
    means = epoch(run, loader)
    assert run.clock.step == 1 and all(torch.tensor(list(means.values())).isfinite())
