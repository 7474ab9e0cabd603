"""torchvision's detectors on these backbones: what their files call our tensors."""

import re

import torchvision

from engine.structures import Preprocessing
from engine.weights.translate import Family, Rules

BRANCH = {"classification": "classes", "regression": "boxes"}
LAST = {"cls_logits": "classes.1", "bbox_reg": "boxes.1"}


def _tower(m: re.Match[str]) -> str:
    """A convolution of a tower; before torchvision 0.13 activations were counted too."""
    old = m[3] in ("weight", "bias")
    return f"{BRANCH[m[1]]}.0.{int(m[2]) // (1 + old)}.{'0.' * old}{m[3]}"


def _list(m: re.Match[str]) -> str:
    return f"{BRANCH[m[1]]}.{m[2]}"


RETINANET_RULES: Rules = (
    (r"backbone\.body\.(.*)", r"\1"),
    (r"backbone\.fpn\.(\w+_blocks\.\d+)\.(weight|bias)", r"pyramid.\1.0.\2"),  # before 0.13
    (r"backbone\.fpn\.extra_blocks\.p6\.(.*)", r"pyramid.extras.0.\1"),
    (r"backbone\.fpn\.extra_blocks\.p7\.(.*)", r"pyramid.extras.1.\1"),
    (r"backbone\.fpn\.(.*)", r"pyramid.\1"),
    (r"head\.(\w+)_head\.conv\.(\d+)\.(.*)", _tower),
    (r"head\.\w+_head\.(cls_logits|bbox_reg)\.(.*)", lambda m: f"{LAST[m[1]]}.{m[2]}"),
)
SSD300_RULES: Rules = (
    (r"backbone\.scale_weight", r"scale.weight"),
    (r"backbone\.extra\.0\.7\.1\.(.*)", r"fc6.\1"),
    (r"backbone\.extra\.0\.7\.3\.(.*)", r"fc7.\1"),
    (r"backbone\.extra\.0\.(\d+)\.(.*)", lambda m: f"features.{23 + int(m[1])}.{m[2]}"),
    (r"backbone\.extra\.(\d+)\.(.*)", lambda m: f"extras.{int(m[1]) - 1}.{m[2]}"),
    (r"backbone\.(features.*)", r"\1"),
    (r"head\.(\w+)_head\.module_list\.(.*)", _list),
)
SSDLITE_RULES: Rules = (
    (r"backbone\.features\.0\.13\.(.*)", r"features.13.block.0.\1"),  # where the fine map is taken
    (r"backbone\.features\.1\.0\.(.*)", r"features.13.block.\1"),
    (r"backbone\.features\.0\.(.*)", r"features.\1"),
    (r"backbone\.features\.1\.(\d+)\.(.*)", lambda m: f"features.{13 + int(m[1])}.{m[2]}"),
    (r"backbone\.extra\.(.*)", r"extras.\1"),
    (r"head\.(\w+)_head\.module_list\.(.*)", _list),
)
VGG_MEAN, UNSCALED = (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)
HALF = (0.5, 0.5, 0.5)
COCO = torchvision.models.detection.SSD300_VGG16_Weights.COCO_V1.meta["categories"][1:]

RETINANET = Family(
    mark="head.regression_head.bbox_reg.bias",
    rules=RETINANET_RULES,
    outputs=r"classes\.1\..*",
    background=False,
    preprocessing=Preprocessing(size=800, resize=800, fit="letterbox"),
    classes=COCO,
    published={"resnet50": "retinanet_resnet50_fpn"},
    without_eps="retinanet_resnet50_fpn_coco-eeacb38b.pth",  # torchvision runs it so too
)
SSD300 = Family(
    mark="backbone.scale_weight",
    rules=SSD300_RULES,
    outputs=r"classes\.\d+\.(weight|bias)",
    background=True,
    preprocessing=Preprocessing(300, 300, VGG_MEAN, UNSCALED, fit="squeeze"),
    classes=COCO,
    published={"vgg16": "ssd300_vgg16"},
)
SSDLITE = Family(
    mark="backbone.features.1.0.1.0.weight",
    rules=SSDLITE_RULES,
    outputs=r"classes\.\d+\.1\.(weight|bias)",
    background=True,
    preprocessing=Preprocessing(320, 320, HALF, HALF, fit="squeeze"),
    classes=COCO,
)
