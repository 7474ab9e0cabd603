"""What the console says of a run before its first epoch and of each epoch."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from detect.datasets.shapes import Shapes
from engine.config import schema
from engine.output import run_summary

FOLDER = Path("outputs/run")
PLACE = "cpu in fp32"


def composed(*overrides):
    """The configuration of a command line, and the options of its groups."""
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides), return_hydra_config=True)
    return cfg, dict(cfg.hydra.runtime.choices)


def network(*outputs, single=False, size=3):
    """So many parameters, and a head that says no more than what it predicts."""
    made = nn.Linear(size, 1, bias=False)
    made.head = SimpleNamespace(outputs=frozenset(outputs), single=single)
    return made


def loaders(train=None, batches=3):
    """Four batches of `batches`, without loading any."""
    data = train or SimpleNamespace(classes=["cat", "dog"])
    made = SimpleNamespace(dataset=data, images=12)
    return type("Batches", (), {"__len__": lambda self: batches, **vars(made)})(), made


def lines(caplog, *overrides, net=None, given=None, data=None):
    """The lines before the first epoch, by what stands before their colon."""
    cfg, choices = composed(*overrides)
    caplog.set_level(logging.INFO)
    caplog.clear()
    run_summary.begin(
        cfg, net or network("logits", "boxes"), loaders(data), choices,
        overrides if given is None else given, PLACE, FOLDER,
    )  # fmt: skip
    return dict(line.split(": ", 1) for line in caplog.messages[0].split("\n"))


def test_a_backbone_alone_is_said_to_leave_a_detector_on_drawn_shapes(caplog):
    said = lines(caplog, "backbone=resnet18", data=Shapes(split="train"))
    assert said["network"] == (
        "a detector, head ssd on backbone resnet18, 3 parameters, random at first; "
        "loss focal + smooth_l1_light"
    )
    assert said["note"] == (
        "backbone= alone keeps head and loss of model=ssd_resnet34, the default; "
        "a whole network of it: model=resnet18"
    )
    assert said["data"] == (
        "12 images train, 12 validate (val), 5 classes, shapes drawn here, no images of yours "
        "(dataset=shapes); your own: dataset=NAME dataset.root=FOLDER"
    )
    assert said["run folder"] == "outputs/run"


@pytest.mark.parametrize(
    "overrides", [["model=resnet18"], ["backbone=resnet18", "head=retina"], ["optimizer.lr=1"]]
)
def test_what_was_chosen_needs_no_note(overrides, caplog):
    assert "note" not in lines(caplog, *overrides)


def test_a_classifier_has_no_box_term(caplog):
    said = lines(caplog, "model=resnet18", "loss=focal", net=network("logits", size=11_700_000))
    assert said["network"] == (
        "a classifier, head linear on backbone resnet18, 11.7 million parameters, "
        "random at first; loss focal"
    )


def test_weights_and_one_object_are_named(caplog):
    said = lines(caplog, "backbone.weights=w.pt", net=network("logits", "boxes", single=True))
    assert said["network"].startswith("a detector of one object an image, head ssd on ")
    assert "3 parameters, from w.pt; " in said["network"]


def test_the_data_is_named_by_its_folder(caplog):
    said = lines(caplog, "dataset=voc", "dataset.root=cells", "trainer.overfit=4")
    assert said["data"] == (
        "12 images train, 12 validate (train's first 4 images, overfit), 2 classes, "
        "from cells (dataset=voc)"
    )


def test_how_long_it_trains(caplog):
    assert lines(caplog)["training"] == (
        "adamw, rate 0.001, schedule cosine; 224 x 224 pixels, 8 images a batch; "
        "40 epochs of 3 steps, evaluated every 5 epochs and at the end; on cpu in fp32"
    )
    said = lines(caplog, "optimizer=sgd", "optimizer.lr=0.02", "finetune=head", "schedule=step",
                 "image_size=[240,320]", "trainer.accumulate=2", "trainer.minutes=1.5",
                 "trainer.eval_every=1")  # fmt: skip
    assert said["training"] == (
        "sgd, rate 0.02, schedule step, finetune head; 240 x 320 pixels, 8 images a batch, "
        "2 batches a step; 40 epochs of 2 steps, at most 1.5 minutes, evaluated after each; "
        "on cpu in fp32"
    )


def test_the_average_is_explained(caplog):
    assert lines(caplog)["weights"] == (  # 1 / (1 - .998) = 500
        "averaged over about the last 500 steps, fewer at first; the average is evaluated and "
        "predicts (trainer.ema=0.998; null for none)"
    )
    assert lines(caplog, "trainer.ema=null")["weights"] == (
        "the newest are evaluated and kept (trainer.ema=null: no average)"
    )


def test_without_choices_the_classes_are_named(caplog):
    cfg, _ = composed()
    (line,) = run_summary.network_lines(cfg, network("logits", "boxes"), {}, ["backbone=x"])
    assert "head SSD on backbone ResNet, " in line and line.endswith("loss Focal + SmoothL1")


MODELS = sorted(path.stem for path in (schema.CONFIGS / "model").glob("*.yaml"))


@pytest.mark.parametrize(
    "model",
    [pytest.param(m, marks=pytest.mark.slow if i % 3 else ()) for i, m in enumerate(MODELS)],
)
def test_every_network_has_its_line_with_and_without_choices(model):
    cfg, choices = composed(f"model={model}")
    for names in (choices, {}):
        (line, *_) = run_summary.network_lines(cfg, network("logits", "boxes"), names, [])
        assert line.startswith("network: a detector, head ")
        is_part = OmegaConf.is_dict(cfg.loss.get("box"))  # Faster R-CNN's is a weight
        assert (" + " in line.split("loss ")[1]) == is_part


ROW = {"epoch": 3, "train/class": 0.512, "train/box": 0.2187, "train/grad_norm": 9.0,
       "train/clipped": 0.5, "train/skipped": 0.0, "trained": 7, "lr": 0.1}  # fmt: skip
VAL = {"val/mAP": 0.41234, "val/AP/cat": 0.4, "val/loss/class": 0.6, "val/loss/box": 0.31}


@pytest.mark.parametrize(
    ("row", "best", "left", "text", "strong"),
    [
        (ROW | VAL | {"seconds": 35.2}, 0.41234, 700,
         "epoch 3 of 40: train class 0.512 box 0.219, val class 0.6 box 0.31, mAP 0.4123 "
         "(best 0.4123), after 35 s, about 12 min left", ["mAP 0.4123 (best 0.4123)"]),
        (ROW | VAL | {"seconds": 35.2}, 0.5, None,
         "epoch 3 of 40: train class 0.512 box 0.219, val class 0.6 box 0.31, mAP 0.4123 "
         "(best 0.5000), after 35 s", []),
        (ROW | {"seconds": 7200}, 0.5, 12,
         "epoch 3 of 40: train class 0.512 box 0.219, after 2.0 h, about 12 s left", []),
    ],
)  # fmt: skip
def test_an_epoch_in_one_line(row, best, left, text, strong, caplog):
    caplog.set_level(logging.INFO)
    run_summary.epoch(row, 40, "mAP", best, left)
    assert caplog.messages == [text] and list(caplog.records[0].strong) == strong
