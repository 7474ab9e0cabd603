"""Running statistics of batch normalisation in short runs, and networks that answer alike."""

from functools import cache

import hydra
import numpy as np
import pytest
import torch
from command_line import run as command
from command_line import table
from omegaconf import OmegaConf
from torch import nn

from classify.heads.linear import Linear
from classify.losses import CrossEntropy
from engine.builders import judged_parts, parts
from engine.builders.instantiate import part
from engine.config.schema import CONFIGS, Precision
from engine.data.image import write_rgb
from engine.network import Network
from engine.structures import Output
from engine.training import same_answer
from engine.training.loop import evaluate_network
from engine.training.same_answer import SameAnswer
from engine.training.statistics import BatchStatistics

BACKBONES = sorted(path.stem for path in (CONFIGS / "backbone").glob("*.yaml"))
DETECTORS = ["ssdlite_mobilenet_v3", "ssd_resnet34", "retinanet_resnet18", "yolo_v3"]
CPU = torch.device("cpu")


@cache
def has_statistics(name):
    if name == "timm":
        return False  # a library of networks; its layers are torch's
    with torch.device("meta"):
        made = part(OmegaConf.load(CONFIGS / f"backbone/{name}.yaml"), "backbone")
    return any(isinstance(m, nn.BatchNorm2d) for m in made.modules())


def judged(network, forward):
    """The relative distance between the outputs in evaluation and in training mode.

    It takes two steps at no learning rate on one batch, so that the outputs in training mode, which
    use the batch's own mean and variance, are what evaluation should give for it.
    """
    statistics, numbers = BatchStatistics(network), {}
    for module in network.train().modules():
        if isinstance(module, nn.Dropout):
            module.eval()
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(
                lambda norm, given, _: numbers.update({norm: given[0].numel() // given[0].shape[1]})
            )
    for step in range(2):
        with torch.no_grad(), statistics.following(step):
            expected = forward()
    for norm, n in numbers.items():
        norm.running_var *= (
            n - 1
        ) / n  # torch keeps the sum over n - 1, and trains with that over n
    network.eval()
    with torch.no_grad():
        found = forward()
    return float((found - expected).norm() / (expected - expected.mean()).norm())


def one(name):
    """A backbone of the table; those that repeat the layers of a smaller one are slow tests."""
    larger = name in ("resnet101", "resnet152", "vgg13_bn", "vgg16_bn", "vgg19_bn")
    return pytest.param(name, marks=pytest.mark.slow if larger else ())


@pytest.mark.parametrize("name", [one(n) for n in BACKBONES if has_statistics(n)])
def test_after_two_steps_evaluation_is_like_training(name):
    torch.manual_seed(0)
    backbone = part(OmegaConf.load(CONFIGS / f"backbone/{name}.yaml"), "backbone")
    images = torch.randn(4, 3, 64, 64)
    assert judged(backbone, lambda: backbone(images)[-1]) < 0.01


def test_there_are_many():
    assert sum(map(has_statistics, BACKBONES)) > 15


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_too(name):
    levels = ["head.levels=4"] if "ssd_resnet" in name else []
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=[f"model={name}", "image_size=128", *levels])
    torch.manual_seed(0)
    network = parts.network(cfg, 3, parts.backbone(cfg))
    side = 320 if "lite" in name else 128
    images = torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8)
    assert judged(network, lambda: network(images).logits) < 0.01


def layer(momentum, **values):
    made = nn.Sequential(nn.BatchNorm1d(1, momentum=momentum))
    for name, value in values.items():
        getattr(made[0], name).fill_(value)
    return made


def means(network, batches, first=0):
    """The running mean after each of some batches of two numbers, given by their mean."""
    statistics, seen = BatchStatistics(network).following, []
    for step, mean in enumerate(batches, first):
        with statistics(step):
            network(torch.tensor([[mean - 1.0], [mean + 1.0]])).sum().backward()
        seen.append(network[0].running_mean.item())
    return seen


def test_the_running_mean_by_hand():
    # shares 2 / 2, 2 / 3, 2 / 4, 2 / 5: 8; 8 / 3 + 2 * 2 / 3 = 4; 2 + 6 / 2 = 5; 3 + 2 * 10 / 5
    network = layer(0.01)
    assert means(network, [8.0, 2.0, 6.0, 10.0]) == pytest.approx([8, 4, 5, 7])
    # (x - mean) ** 2 summed is 2, over n - 1 = 1: every batch has the variance 2
    assert network[0].running_var.item() == pytest.approx(2)
    assert network[0].num_batches_tracked == 4 and network[0].momentum == 0.01


def test_from_the_steps_that_the_momentum_needs_on_it_is_torchs():
    torch.manual_seed(0)
    batches = (torch.randn(40) * 9).tolist()
    ours, theirs = layer(0.1), layer(0.1)
    found = means(ours, batches)
    theirs.load_state_dict(layer(0.1, running_mean=found[19]).state_dict())
    for mean, value in zip(batches[20:], found[20:], strict=True):  # 2 / .1 = 20
        theirs(torch.tensor([[mean - 1.0], [mean + 1.0]]))
        assert theirs[0].running_mean.item() == value  # to the bit


@pytest.mark.parametrize("tracked", [0, 10**6])
def test_statistics_that_came_with_weights_are_not_wiped(tracked):
    # A first share of 2 / (18 + 2) = .1, as torch's default: 5 * .9 + 7 * .1
    network = layer(0.01, running_mean=5.0, num_batches_tracked=tracked)
    assert means(network, [7.0]) == pytest.approx([5.2])


def test_a_resumed_run_goes_on_where_it_stopped():
    batches = [8.0, 2.0, 6.0, 10.0, -3.0]
    whole, stopped, resumed = layer(0.01), layer(0.01), layer(0.01)
    expected = means(whole, batches)
    means(stopped, batches[:2])
    statistics = BatchStatistics(resumed)
    resumed.load_state_dict(stopped.state_dict())
    for step, mean in enumerate(batches[2:], 2):
        with statistics.following(step):
            resumed(torch.tensor([[mean - 1.0], [mean + 1.0]]))
    assert resumed[0].running_mean.item() == expected[-1]


def test_frozen_layers_and_those_that_average_by_themselves_are_left_alone():
    frozen, cumulative = layer(0.01), layer(None)
    frozen.eval()
    assert means(frozen, [8.0]) == [0] and means(cumulative, [8.0, 2.0]) == [8, 5]
    assert frozen[0].num_batches_tracked == 0


class Constant(nn.Module):
    """Feature maps that do not depend on the image."""

    channels, strides = (4,), (8,)

    def __init__(self, spread):
        super().__init__()
        self.spread = spread

    def forward(self, images):
        level = 1 + self.spread * images.mean((1, 2, 3))[:, None, None, None]
        return [level.expand(-1, 4, 2, 2)]


@pytest.fixture
def messages(monkeypatch):
    found = []
    monkeypatch.setattr(same_answer, "info", found.append)
    return found


@pytest.mark.parametrize(("spread", "lines"), [(0.0, 1), (1e-8, 1), (1e-2, 0)])
def test_one_line_says_that_every_image_has_the_same_answer(spread, lines, messages):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=["model=resnet18", "dataset=shapes", "image_size=32",
            "dataset.size=32", "dataset.val=5", "dataset.view=multilabel", "metric=multi_label",
            "loss=bce", "loader.workers=0", "loader.batch_size=2"])  # fmt: skip
    data = parts.dataset(cfg, "val")
    head = Linear(channels=(4,), num_classes=5, activation="softmax")
    network = Network(backbone=Constant(spread), head=head, criterion=CrossEntropy())
    network.criterion = part(cfg.loss, "loss")
    for _ in range(2):  # once, not at every evaluation
        evaluate_network(
            network,
            parts.loader(cfg, data, CPU),
            judged_parts.metric(cfg, data.classes),
            CPU,
            Precision.fp32,
        )
    assert [line.split(",")[0] for line in messages] == [
        "the network gives all 5 images the same output"
    ] * lines


@pytest.mark.parametrize("field", ["logits", "boxes"])
def test_one_image_or_one_slot_that_differs_is_an_answer_of_its_own(field, messages):
    values = torch.zeros(3, 6, 4)
    values[2, 5, 1] = 0.5
    for images, lines in ((3, 0), (2, 1), (1, 0)):
        answers = SameAnswer()
        for image in values[:images]:
            answers.add(Output(torch.zeros(1, 6, 2))._replace(**{field: image[None]}))
        messages.clear()
        answers.report(nn.Identity())  # type: ignore[arg-type]
        assert len(messages) == lines


def draw(folder):
    """Write 48 and 24 noisy images of bars and crosses, red or blue: four classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 48), ("val", 24)):
        for i in range(count):
            image = np.full((96, 96, 3), rng.integers(60, 120, 3), np.uint8)
            x, y, half = *rng.integers(30, 66, 2), rng.integers(14, 26)
            colour = np.roll([230, 40, 40], 2 * (i % 4 // 2))
            image[y - 4 : y + 4, x - half : x + half] = colour
            if i % 2:
                image[y - half : y + half, x - 4 : x + 4] = colour
            noisy = image + rng.normal(0, 8, image.shape)
            path = folder / split / "abcd"[i % 4] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_rgb(str(path), noisy.clip(0, 255).astype(np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [16, 24])
def test_a_small_mobilenet_learns_48_images(batch_size, tmp_path):
    draw(tmp_path / "data")
    command(
        "train.py", "model=mobilenet_v3_small", "dataset=image_folder", "trainer.epochs=40",
        f"dataset.root={tmp_path}/data", f"loader.batch_size={batch_size}", "loader.workers=0",
        "trainer.precision=fp32", "device=cpu", f"hydra.run.dir={tmp_path}/run", cwd=tmp_path,
    )  # fmt: skip
    assert float(table(tmp_path / "run/metrics.csv")[-1]["val/top1"]) >= 0.6
