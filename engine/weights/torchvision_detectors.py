"""torchvision's detectors: what their files call our backbones' and heads' tensors.

Their class outputs start with one for no class: under a softmax it is the background, which stands
last here; under a sigmoid it means nothing, and is left out.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torchvision
from torch import Tensor

from engine.structures import Preprocessing

# Of each classifier's name, the detector on top of it whose weights COCO_V1 names.
PUBLISHED = {
    "resnet50": "retinanet_resnet50_fpn",
    "vgg16": "ssd300_vgg16",
}
Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]  # the first that fits is used
BRANCH = {"classification": "classes", "regression": "boxes"}
LAST = {"cls_logits": "classes.1", "bbox_reg": "boxes.1"}


def _tower(m: re.Match[str]) -> str:
    """A convolution of a tower; before torchvision 0.13 activations were counted too."""
    old = m[3] in ("weight", "bias")
    return f"{BRANCH[m[1]]}.0.{int(m[2]) // (1 + old)}.{'0.' * old}{m[3]}"


def _list(m: re.Match[str]) -> str:
    return f"{BRANCH[m[1]]}.{m[2]}"


RETINANET: Rules = (
    (r"backbone\.body\.(.*)", r"\1"),
    (r"backbone\.fpn\.(\w+_blocks\.\d+)\.(weight|bias)", r"pyramid.\1.0.\2"),  # before 0.13
    (r"backbone\.fpn\.extra_blocks\.p6\.(.*)", r"pyramid.extras.0.\1"),
    (r"backbone\.fpn\.extra_blocks\.p7\.(.*)", r"pyramid.extras.1.\1"),
    (r"backbone\.fpn\.(.*)", r"pyramid.\1"),
    (r"head\.(\w+)_head\.conv\.(\d+)\.(.*)", _tower),
    (r"head\.\w+_head\.(cls_logits|bbox_reg)\.(.*)", lambda m: f"{LAST[m[1]]}.{m[2]}"),
)
SSD_VGG: Rules = (
    (r"backbone\.scale_weight", r"scale.weight"),
    (r"backbone\.extra\.0\.7\.1\.(.*)", r"fc6.\1"),
    (r"backbone\.extra\.0\.7\.3\.(.*)", r"fc7.\1"),
    (r"backbone\.extra\.0\.(\d+)\.(.*)", lambda m: f"features.{23 + int(m[1])}.{m[2]}"),
    (r"backbone\.extra\.(\d+)\.(.*)", lambda m: f"extras.{int(m[1]) - 1}.{m[2]}"),
    (r"backbone\.(features.*)", r"\1"),
    (r"head\.(\w+)_head\.module_list\.(.*)", _list),
)
SSDLITE: Rules = (
    (r"backbone\.features\.0\.13\.(.*)", r"features.13.block.0.\1"),  # where the fine map is taken
    (r"backbone\.features\.1\.0\.(.*)", r"features.13.block.\1"),
    (r"backbone\.features\.0\.(.*)", r"features.\1"),
    (r"backbone\.features\.1\.(\d+)\.(.*)", lambda m: f"features.{13 + int(m[1])}.{m[2]}"),
    (r"backbone\.extra\.(.*)", r"extras.\1"),
    (r"head\.(\w+)_head\.module_list\.(.*)", _list),
)


class Family(NamedTuple):
    """Detectors whose files look alike."""

    mark: str  # a tensor that only they have
    rules: Rules
    outputs: str  # which tensors, by our names, hold the class outputs
    background: bool
    preprocessing: Preprocessing


VGG_MEAN, UNSCALED = (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)
HALF = (0.5, 0.5, 0.5)
FAMILIES = (
    Family("head.regression_head.bbox_reg.bias", RETINANET, r"classes\.1\..*", False,
           Preprocessing(size=800, resize=800, fit="letterbox")),
    Family("backbone.scale_weight", SSD_VGG, r"classes\.\d+\.(weight|bias)", True,
           Preprocessing(300, 300, VGG_MEAN, UNSCALED, fit="squeeze")),
    Family("backbone.features.1.0.1.0.weight", SSDLITE, r"classes\.\d+\.1\.(weight|bias)", True,
           Preprocessing(320, 320, HALF, HALF, fit="squeeze")),
)  # fmt: skip
# Trained, and run by torchvision, with normalisation that adds nothing to the variance.
WITHOUT_EPS = "retinanet_resnet50_fpn_coco-eeacb38b.pth"
EPS = 1e-5


class Detector(NamedTuple):
    """A detector's tensors by our names, the backbone's and the head's."""

    state: dict[str, Tensor]
    preprocessing: Preprocessing
    classes: list[str]


def translate(state: Mapping[str, Tensor], path: Path) -> Detector | None:
    """What a file holds by our names; None where it is none of these detectors."""
    family = next((f for f in FAMILIES if f.mark in state), None)
    if family is None:
        return None
    ours = {_renamed(key, family.rules): tensor for key, tensor in state.items()}
    outputs = [key for key in ours if re.fullmatch(family.outputs, key)]
    anchors = {key: len(ours[key.replace("classes", "boxes")]) // 4 for key in outputs}
    for key, number in anchors.items():
        ours[key] = _background_last(ours[key], number, family.background)
    if path.name == WITHOUT_EPS:
        ours |= _without_eps(ours)
    number = len(ours[outputs[0]]) // anchors[outputs[0]] - family.background
    return Detector(ours, family.preprocessing, _names(number))


def _without_eps(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scales by which normalisation that adds EPS to variances says what it says without.

    Variances are left alone: some are so small that taking EPS from them would leave 0.
    """
    scales = {}
    for key in (k for k in state if k.endswith("running_var")):
        name, variance = key.replace("running_var", "weight"), state[key].clamp(min=1e-30)
        scales[name] = state[name] * ((variance + EPS) / variance).sqrt()
    return scales


def _renamed(key: str, rules: Rules) -> str:
    for pattern, to in rules:
        if found := re.fullmatch(pattern, key):
            return found.expand(to) if isinstance(to, str) else to(found)
    return key


def _background_last(tensor: Tensor, anchors: int, background: bool) -> Tensor:
    """Outputs [n * C, ..] of n anchors, their first class moved to the end or left out."""
    each = tensor.view(anchors, -1, *tensor.shape[1:])
    return (each.roll(-1, 1) if background else each[:, 1:]).flatten(0, 1)


def _names(number: int) -> list[str]:
    coco = torchvision.models.detection.SSD300_VGG16_Weights.COCO_V1.meta["categories"][1:]
    return coco if number == len(coco) else [f"class {i}" for i in range(number)]
