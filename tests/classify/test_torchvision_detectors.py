"""torchvision's detectors by our names: the tables, and what a user gets."""

import re
from pathlib import Path

import cv2
import hydra
import numpy as np
import pytest
import torch
import torchvision
from command_line import run
from torch import nn

from classify.backbones.torchvision_detectors import RETINANET, SSD300, SSDLITE
from classify.backbones.vgg_ssd import VGGSSD
from engine.builders import from_checkpoint, parts
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.weights.translate import translate

DETECTION = torchvision.models.detection
LITE = "ssdlite320_mobilenet_v3_large_coco-a79551df.pth"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    """A file of SSDlite's published name and shapes, where torchvision's would lie."""
    torch.manual_seed(0)
    net = DETECTION.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    path = tmp_path_factory.mktemp("hub") / "checkpoints" / LITE
    path.parent.mkdir()
    torch.save(net.state_dict(), path)
    return path


def compose(*overrides, name="pretrained"):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(name, overrides=["model=ssdlite_mobilenet_v3", *overrides])


@pytest.mark.parametrize("by", ["name", "file"])
def test_a_published_detector_is_complete_and_has_cocos_names(by, lite, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(lite.parents[1]))
    cfg = compose(f"backbone.weights={'COCO_V1' if by == 'name' else lite}")
    net, classes = from_checkpoint.pretrained(cfg, CPU)
    assert len(classes) == 90 and classes[:2] == ["person", "bicycle"]
    assert (cfg.image_size, cfg.augment.fit, list(cfg.preprocessing.std)) == (
        320, "squeeze", [0.5] * 3,
    )  # fmt: skip
    file = torch.load(lite)
    last = "head.classification_head.module_list.2.1.bias"
    background_last = file[last].view(6, 91).roll(-1, 1).flatten()
    assert torch.equal(net.head.classes[2][1].bias, background_last)
    assert torch.equal(
        net.backbone.features[13].block[1][0].weight, file["backbone.features.1.0.1.0.weight"]
    )


def test_other_classes_take_all_but_the_class_outputs(lite):
    cfg = compose(f"backbone.weights={lite}", name="train")
    net = parts.network(cfg, 3, parts.backbone(cfg))
    file = torch.load(lite)
    assert torch.equal(net.head.extras[0][0][0].weight, file["backbone.extra.0.0.0.weight"])
    box = file["head.regression_head.module_list.5.1.weight"]
    assert torch.equal(net.head.boxes[5][1].weight, box)
    assert net.head.classes[0][1].bias.shape == (6 * 4,)


def test_another_head_is_refused_where_it_must_be_complete(lite):
    with pytest.raises(UserError, match="do not fit SSD.*pick another head="):
        from_checkpoint.pretrained(compose(f"backbone.weights={lite}", "head=ssd"), CPU)


def test_predict_runs_with_a_detectors_file(lite, tmp_path):
    cv2.imwrite(f"{tmp_path}/a.png", np.full((60, 80, 3), 90, np.uint8))
    said = run("predict.py", "model=ssdlite_mobilenet_v3", f"backbone.weights={lite}",
               "source=a.png", "device=cpu", "loader.workers=0", cwd=tmp_path)  # fmt: skip
    assert "144 of the head's 144 tensors matched" in str(said)


def old_names(key):
    """The name of a tensor in files of torchvision before 0.13."""
    key = re.sub(r"(fpn\.\w+_blocks\.\d)\.0\.", r"\1.", key)
    return re.sub(r"(_head\.conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", key)


def test_retinanets_older_files_translate_to_the_same_names():
    with torch.device("meta"):
        net = DETECTION.retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=8)
    state = net.state_dict()
    old = {old_names(key): tensor for key, tensor in state.items()}
    assert len(old.keys() - state.keys()) == 2 * (6 + 8)  # of the pyramid, of the towers
    new, was = (translate(s, Path("net.pth"), [RETINANET]) for s in (state, old))
    assert new.state.keys() == was.state.keys() and len(new.state) == len(state)
    assert new.classes == [f"class {i}" for i in range(7)]


def test_the_published_retinanet_adds_nothing_to_variances():
    variance, scale = torch.tensor([0.5, 1e-7, 1e-20]), torch.tensor([1.0, 1e-3, 1e-9])
    state = {
        "backbone.body.bn1.weight": scale,
        "head.regression_head.bbox_reg.bias": torch.zeros(36),
        "head.classification_head.cls_logits.bias": torch.zeros(9 * 91),
        "backbone.body.bn1.running_var": variance,
    }
    for name, eps in (("other.pth", 1e-5), (RETINANET.without_eps, 0.0)):
        got = translate(state, Path(name), [RETINANET])
        assert torch.equal(got.state["bn1.running_var"], variance)
        layer = nn.BatchNorm2d(3).eval()
        layer.load_state_dict(
            {k: got.state[f"bn1.{k}"] for k in ("weight", "running_var")}, strict=False
        )
        x = torch.rand(1, 3, 2, 2)
        want = x * (scale / (variance + eps).sqrt()).view(1, 3, 1, 1)
        torch.testing.assert_close(layer(x), want)
        assert got.classes[0] == "person" and got.preprocessing.fit == "letterbox"
    published = DETECTION.RetinaNet_ResNet50_FPN_Weights.COCO_V1.url
    assert published.endswith(RETINANET.without_eps)


def test_ssds_backbone_starts_from_a_classifiers(tmp_path):
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    torch.save(nn.ModuleDict({"features": features}).state_dict(), tmp_path / "vgg.pth")
    ours = VGGSSD(weights=str(tmp_path / "vgg.pth"))
    assert torch.equal(ours.features[28].weight, features[28].weight)
    assert ours.pretrained.unused_tensors == {}
    torch.save({f"layer{i}": torch.zeros(2) for i in range(9)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="weights of another network: 0 of the backbone's 31"):
        VGGSSD(weights=str(tmp_path / "other.pth"))


def test_other_files_are_no_detectors():
    state = {"conv1.weight": torch.zeros(1)}
    assert translate(state, Path("net.pth"), [RETINANET, SSD300, SSDLITE]) is None
