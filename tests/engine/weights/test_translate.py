"""Other programs' detectors by our names: the engine applies the families that a backbone lists."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.errors import UserError
from engine.structures import Preprocessing
from engine.weights.pretrained import load
from engine.weights.translate import Family, _background_last, translate

FAMILY = Family(
    mark="net.last.bias",
    rules=((r"net\.(conv.*)", r"\1"), (r"net\.(last|corners)\.bias", lambda m: f"{HEAD[m[1]]}.1")),
    outputs=r"classes\.1",
    background=True,
    preprocessing=Preprocessing(fit="letterbox"),
    classes=["ant", "bee"],
)
HEAD = {"last": "classes", "corners": "boxes"}
STATE = {
    "net.conv.weight": torch.ones(2, 3, 1, 1),
    "net.conv.bias": torch.ones(2),
    "net.last.bias": torch.arange(6.0),  # two anchors of the background and two classes
    "net.corners.bias": torch.zeros(8),
}


def backbone():
    return nn.ModuleDict({"conv": nn.Conv2d(3, 2, 1)})


def test_the_class_outputs_by_hand():
    outputs = torch.arange(6.0)  # two anchors of three, the first of each no class
    assert _background_last(outputs, 2, True).tolist() == [1, 2, 0, 4, 5, 3]
    assert _background_last(outputs, 2, False).tolist() == [1, 2, 4, 5]


def test_a_file_is_read_by_the_families_that_the_backbone_hands_over(tmp_path, caplog):
    caplog.set_level(logging.INFO, "onelook")
    torch.save(STATE, tmp_path / "a.pth")
    made = backbone()
    loaded = load(made, str(tmp_path / "a.pth"), None, [FAMILY])
    assert made["conv"].bias.tolist() == [1, 1]
    assert loaded.unused_tensors["classes.1"].tolist() == [1, 2, 0, 4, 5, 3]
    assert (loaded.classes, loaded.preprocessing.fit) == (["ant", "bee"], "letterbox")
    assert "2 of the file left over (boxes.1, classes.1)" in caplog.text
    plain = load(backbone(), str(tmp_path / "a.pth"), None)
    assert plain.classes is None
    assert set(plain.unused_tensors) == {"last.bias", "corners.bias"}


def test_classes_of_another_number_are_numbered():
    found = translate(STATE, Path("a.pth"), [replace(FAMILY, classes=["ant"])])
    assert found.classes == ["class 0", "class 1"]


def test_a_detectors_names_are_offered_where_it_is_published():
    family = replace(FAMILY, published={"resnet50": "retinanet_resnet50_fpn"})
    with pytest.raises(UserError, match="expected a file, or COCO_V1, DEFAULT, IMAGENET1K_V1"):
        load(backbone(), "nowhere.pth", "resnet50", [family])
    with pytest.raises(UserError, match="expected a file, or DEFAULT, IMAGENET1K_V1"):
        load(backbone(), "nowhere.pth", "resnet50")
    with pytest.raises(UserError, match="expected a file, or DEFAULT, IMAGENET1K_V1"):
        load(backbone(), "nowhere.pth", "resnet18", [family])
