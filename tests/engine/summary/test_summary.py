import json
from functools import cache

import hydra
import pytest
import torch
from command_line import ended
from torch import nn

from classify.backbones.resnet import ResNet
from engine.config.schema import CONFIGS
from engine.summary.layers import Recorder, summarize
from engine.summary.receptive_field import ReceptiveField
from engine.summary.table import WIDTH, format_summary, plain_values

PUBLISHED = [  # parameters with 1000 classes, GMACs at 224 as torchvision gives them
    ("alexnet", 61_100_840, 0.714),
    ("vgg16", 138_357_544, 15.470),
    ("resnet18", 11_689_512, 1.814),
    ("resnet34", 21_797_672, 3.664),
    ("resnet50", 25_557_032, 4.089),
    ("googlenet", 13_004_888, 1.498),
    ("mobilenet_v1", 4_231_976, 0.569),
    ("mobilenet_v2", 3_504_872, 0.301),
    ("mobilenet_v3_small", 2_542_856, 0.057),
    ("mobilenet_v3_large", 5_483_032, 0.217),
    ("vit_b_16", 86_567_656, 17.564),
]


@cache
def of(*overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return summarize(hydra.compose("summary", overrides=["image_size=224", *overrides]))


@pytest.mark.parametrize(("name", "parameters", "gmacs"), PUBLISHED)
def test_totals_are_the_published_ones(name, parameters, gmacs):
    found = of(f"model={name}", "num_classes=1000")
    assert found.parameters == parameters
    assert round(found.macs / 1e9, 3) == gmacs
    assert sum(layer.macs for layer in found.layers) == found.macs
    assert sum(layer.parameters for layer in found.layers) + found.unlisted == parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_186_772), ("resnet34", 21_294_932), ("resnet50", 23_549_012)],
)
def test_twenty_classes(name, parameters):
    assert of(f"model={name}").parameters == parameters


def test_what_only_training_runs_is_counted_and_listed():
    # Both auxiliary classifiers: 13,004,888 - 6,624,904.
    found = of("model=googlenet", "num_classes=1000")
    assert found.unlisted == 6_379_984
    assert "parameters 13,004,888, 6,379,984 of them in no layer above" in format_summary(found)


def test_a_layer_by_hand():
    # 64 kernels of 7 x 7 x 3 at 112 x 112 places: N = (224 - 7 + 2 * 3) / 2 + 1 = 112.
    first, norm = of("model=resnet18").layers[:2]
    assert first == ("backbone.conv1", "Conv2d", [64, 112, 112], 2, 7, 9408, 9408 * 112 * 112)
    assert (norm.type, norm.parameters, norm.macs) == ("BatchNorm2d", 128, 0)
    last = of("model=resnet18").layers[-1]
    assert (last.output, last.stride, last.field) == ([20], None, float("inf"))


def test_the_anchors_of_a_detector_by_hand():
    # Strides 8 to 128 of 224: 28, 14, 7, 4, 2 cells a side, 3 scales x 3 ratios.
    found = of("model=ssd_resnet34")
    assert [level.grid for level in found.levels] == [[n, n] for n in (28, 14, 7, 4, 2)]
    assert [level.cell for level in found.levels] == [[n, n] for n in (8, 16, 32, 56, 112)]
    assert {level.anchors for level in found.levels} == {9}
    assert found.slots == 9 * (28**2 + 14**2 + 7**2 + 4**2 + 2**2) == 9441


@pytest.mark.parametrize(
    ("overrides", "grids", "slots"),
    [
        # Lesson 9 of fast.ai: 4 x 4, 2 x 2 and 1 x 1 cells of 9 anchors.
        (["head.first_stride=32", "head.levels=3", "image_size=128"], [4, 2, 1], 189),
        (["head=yolo_v3", "loss=yolo_v3", "image_size=416"], [13, 26, 52], 10647),
    ],
)
def test_slots_of_published_detectors(overrides, grids, slots):
    found = of("model=ssd_resnet34", *overrides)
    assert [level.grid[0] for level in found.levels] == grids and found.slots == slots
    assert sum(level.slots for level in found.levels) == slots


def test_images_need_not_be_square():
    found = of("model=ssd_resnet34", "image_size=[128,256]")
    assert found.levels[0].grid == [16, 32] and found.levels[0].cell == [8, 8]
    assert found.layers[0].output == [64, 64, 128]


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v3_large", "vit_tiny", "ssd_resnet34"])
def test_the_text_fits_its_columns_and_agrees_with_the_json(name):
    found = of(f"model={name}")
    lines = format_summary(found).split("\n")
    assert max(map(len, lines)) <= WIDTH
    start = lines.index("") + 2
    for line, row in zip(lines[start:], found.layers, strict=False):
        assert line.split()[0].removeprefix("..") in row.name and row.type in line
        assert f"{row.parameters:,}" in line or not row.parameters
    assert f"parameters {found.parameters:,}" in format_summary(found)
    values = json.loads(json.dumps(plain_values(found), allow_nan=False))
    assert len(values["layers"]) == len(found.layers)
    assert values["layers"][0]["field"] == found.layers[0].field
    assert {"all", None} & {row["field"] for row in values["layers"]} <= {"all"}


def test_a_layer_that_runs_twice_has_its_parameters_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.conv(self.conv(x)) @ x * self.scale

    network, recorder = Twice(), Recorder()
    with torch.no_grad(), recorder.flops, recorder.fields:
        recorder.watch(network, "net")
        image = torch.zeros(1, 3, 8, 8)
        recorder.fields.register(image, ReceptiveField())
        network(image)
    rows = [(r.name, r.parameters, r.field, r.macs) for r in recorder.layers]
    once = 81 * 64
    assert rows[:2] == [("net.conv", 84, 3, once), ("net.conv", 0, 5, once)]
    assert rows[2:] == [("net", 1, float("inf"), 3 * 8**3)]  # its own product and parameter


def test_a_backbone_that_needs_numbers_gets_them_and_the_reason_is_noted(monkeypatch):
    forward = ResNet.forward

    def picky(self, images):
        return forward(self, images + float(images.sum()))

    monkeypatch.setattr(ResNet, "forward", picky)
    found = of("model=resnet18", "num_classes=7", "image_size=64")
    assert "computed with numbers, on the CPU: " in format_summary(found) and "meta" in found.note
    assert found.parameters == 11_689_512 - 993 * 513
    assert not of("model=resnet18").note


def command(*arguments, cwd):
    """Exit code, standard output, standard error of `python -m engine.summary`."""
    process = ended("-m", "engine.summary", *arguments, cwd=cwd)
    assert not list(cwd.iterdir())  # it leaves nothing behind
    return process.returncode, process.stdout, process.stderr


def test_the_command_prints_one_json_document(tmp_path):
    arguments = ["model=resnet18", "num_classes=10", "format=json", "backbone.weights=no/file.pt"]
    code, out, err = command(*arguments, cwd=tmp_path)
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert values["image_size"] == [224, 224]  # auto
    assert values["parameters"] == 11_689_512 - 990 * 513 and values["levels"] == []
    assert values["layers"][-1]["output"] == [10]


def test_the_command_prints_a_table(tmp_path):
    code, out, err = command("model=ssd_resnet34", "image_size=128", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith("resnet34 + SSD, 20 classes, images [3, 128, 128]\n")
    assert "backbone.layer1.0.conv1" in out and "\nslots " in out


@pytest.mark.parametrize(
    ("typo", "hint"),
    [
        ("sed=1", "sed: no such key; did you mean 'seed'?"),
        ("num_clases=3", "num_clases: no such key; did you mean 'num_classes'?"),
        ("format=jason", "format=jason: expected text or json; did you mean 'json'?"),
        ("num_classes=0", "num_classes=0: expected a whole number from 1 to 100,000"),
        ("model=resnt18", "model=resnt18: no such model; did you mean 'resnet18'?"),
        ("head.levls=3", "head.levls: no such key; did you mean 'head.levels'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, typo, hint):
    code, out, err = command(typo, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert hint in err and err.count("\n") == 1 and err.startswith("error: ")


@pytest.mark.slow
def test_a_second_stage_is_counted_too():
    # torchvision's FasterRCNN_ResNet50_FPN at 800 x 800: 134.38 GMACs and 41,755,286 parameters,
    # which do not count the 2 * 26,560 of its frozen batch normalisation. 90 classes of COCO.
    found = of("model=faster_rcnn_resnet50", "num_classes=90", "image_size=800")
    assert round(found.macs / 1e9, 2) == 134.38
    assert found.parameters == 41_755_286 + 2 * 26_560 and found.unlisted == 0
    layers = {layer.name: layer for layer in found.layers}
    # Of 1000 proposals: 256 * 7 * 7 numbers each into 1024.
    assert layers["head.stage.box_head.fc6"].macs == 1000 * 12_544 * 1024
    # 200, 100, 50, 25 and 13 cells a side, 3 anchors each: (40000 + 10000 + 2500 + 625 + 169) * 3
    assert found.slots == 159_882 and [level.anchors for level in found.levels] == [3] * 5
