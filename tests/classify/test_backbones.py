"""What holds for every backbone of configs/backbone, and what single families take and refuse."""

import importlib.util
import sys
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import ClassVar

import hydra
import pytest
import torch
import torchvisions
from omegaconf import OmegaConf
from torch import nn

from classify.backbones.alexnet import AlexNet
from classify.backbones.block import conv_block
from classify.backbones.csp_darknet import CSPDarknet
from classify.backbones.darknet import Darknet19, Darknet53
from classify.backbones.mobilenet import MobileNet, MobileNetV1
from classify.backbones.resnet import ResNet
from classify.backbones.resnet_cifar import ResNetCIFAR, ZeroPadded
from classify.backbones.timm_features import Timm
from classify.backbones.vgg import VGG
from classify.backbones.vit import ViT
from detect.anchors import last_map_per_stride
from engine.builders import parts
from engine.builders.instantiate import part
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.network import parameters
from engine.structures import Objects

FILES = {path.stem: path for path in sorted((CONFIGS / "backbone").glob("*.yaml"))}
ONE_CELL = "vit_b_16_token"
LARGE = ("vgg", "resnet1", "darknet53", "vit_b")  # which train on a smaller image here
without_timm = pytest.mark.skipif(not importlib.util.find_spec("timm"), reason="timm is optional")
every = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=without_timm if n == "timm" else ()) for n in FILES]
)
SIBLINGS = {  # deeper or wider by the same code as one that trains in the fast tests
    "darknet53", "resnet34", "resnet101", "resnet152", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn",
    "vgg19", "vgg19_bn", "vit_b_16",
}  # fmt: skip


@cache
def shapes_only(name):
    """A backbone in evaluation mode that computes no number."""
    with torch.device("meta"):
        return part(OmegaConf.load(FILES[name]), "backbone").eval()


def sizes(backbone, height, width):
    maps = backbone(torch.empty(1, 3, height, width, device="meta"))
    return [tuple(m.shape[2:]) for m in maps]


def test_there_are_many():
    assert len(FILES) > 25


@every
def test_channels_and_strides_are_as_declared(name):
    backbone = shapes_only(name)
    maps = backbone(torch.empty(2, 3, 224, 192, device="meta"))
    assert [m.shape[:2] for m in maps] == [(2, c) for c in backbone.channels]
    assert all(a <= b for a, b in pairwise(backbone.strides))
    larger = sizes(backbone, 224 + 3 * 32, 192 + 32)
    for small, large, stride in zip(maps, larger, backbone.strides, strict=True):
        added = 32 // stride if stride else 0  # so many strides more of pixels, so many more cells
        assert large == (small.shape[2] + 3 * added, small.shape[3] + added)


@every
def test_odd_sizes(name):
    backbone = shapes_only(name)
    # Poolings without padding drop what does not fill a window, as published.
    slack = 2 if name.startswith(("alexnet", "vgg", "darknet19", "darknet_v1", "googlenet")) else 0
    for (h, w), stride in zip(sizes(backbone, 97, 131), backbone.strides, strict=True):
        rows, columns = (-(-97 // stride), -(-131 // stride)) if stride else (1, 1)
        assert rows - slack <= h <= rows and columns - slack <= w <= columns


@every
def test_groups_hold_every_parameter_once(name):
    backbone = shapes_only(name)
    if name == "timm":  # a part without groups is one
        return
    groups = backbone.groups()
    found = [p for group in groups for p in parameters(group)]
    assert len(groups) > 2 and all(groups)
    assert len(found) == len({id(p) for p in found}) == len(list(backbone.parameters()))
    names = {id(p): key for key, p in backbone.named_parameters()}
    order = {key: i for i, key in enumerate(names.values())}
    if name[:3] != "vit":  # whose direct parameters come first in its list of names
        assert [order[names[id(p)]] for p in found] == sorted(order.values())  # shallow first


def check_gradients(module):
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            n,
            marks=without_timm if n == "timm" else pytest.mark.slow if n in SIBLINGS else (),
        )
        for n in FILES
    ],
)
def test_trains_under_an_ssd_and_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    side = 64 if name.startswith(LARGE) else 96
    overrides = ["model=ssd_resnet34", f"backbone={name}", "head.levels=3", f"image_size={side}"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=overrides)
    backbone = parts.backbone(cfg)
    if name == ONE_CELL:
        with pytest.raises(UserError, match="needs a map of stride 8 or more.*pick another"):
            parts.network(cfg, 3, backbone)
        backbone(torch.randn(2, 3, 48, 48))[0].square().sum().backward()
        return check_gradients(backbone)
    cfg.head.first_stride = min(8, backbone.strides[-1])  # some are for very small images
    net = parts.network(cfg, 3, backbone).train()
    boxes = torch.tensor([[0.1, 0.1, 0.7, 0.7], [0.3, 0.2, 0.9, 0.6]]) * side
    objects = Objects(boxes, torch.tensor([0, 2]), torch.tensor([0, 1]))
    losses = net.losses(net(torch.randint(256, (2, 3, side, side), dtype=torch.uint8)), objects)
    sum(losses.values()).backward()
    check_gradients(net.backbone)


def test_a_detector_takes_the_last_map_of_each_stride():
    assert last_map_per_stride((4, 8, 16, 32)) == [0, 1, 2, 3]
    assert last_map_per_stride((4, 8, 16, 16, 16, 32)) == [0, 1, 4, 5]
    assert last_map_per_stride((16, 16)) == [1]
    backbone = shapes_only("googlenet")
    given = {"channels": backbone.channels, "strides": backbone.strides, "num_classes": 3}
    nodes = {name: torchvisions.configured("head", name) for name in ("ssd", "yolo_v3")}
    heads = {k: part(node, "head", activation="sigmoid", **given) for k, node in nodes.items()}
    assert heads["ssd"].maps == heads["yolo_v3"].levels == [1, 4, 5]


def kinds(block):
    return [type(layer) for layer in block]


def test_a_block_is_laid_out_as_asked():
    relu = {"activation": nn.ReLU}
    usual = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    plain = conv_block(3, 8, 3, stride=2, **relu)
    assert kinds(plain) == usual and plain[0].bias is None
    assert kinds(conv_block(3, 8, 1, order="conv-act-bn", **relu)) == [usual[0], *usual[:0:-1]]
    assert kinds(conv_block(3, 8, 1, dropout=0.3, **relu)) == [*usual, nn.Dropout2d]
    assert conv_block(3, 8, 1, dropout=0.3, **relu)[3].p == 0.3
    assert conv_block(3, 8, 1, bias=True, **relu)[0].bias is not None


@pytest.mark.parametrize("kind", [MobileNetV1, Darknet19, Darknet53, CSPDarknet])
def test_the_layout_of_blocks_is_an_argument(kind):
    with torch.device("meta"):
        usual = kind()
        other = kind(order="conv-act-bn", dropout=0.1, bias=True)
    assert not any(isinstance(m, nn.Dropout2d) for m in usual.modules())
    convolutions = [m for m in other.modules() if isinstance(m, nn.Conv2d)]
    drops = [m for m in other.modules() if isinstance(m, nn.Dropout2d)]
    assert all(m.bias is not None for m in convolutions) and len(drops) == len(convolutions)
    after = [type(list(m)[1]) for m in other.modules() if isinstance(m, nn.Sequential)
             and isinstance(next(iter(m), None), nn.Conv2d)]  # fmt: skip
    assert after and nn.BatchNorm2d not in after


def test_width_and_depth():
    with torch.device("meta"):
        assert MobileNetV1(width_factor=0.25).channels == (32, 64, 128, 256)
        assert MobileNetV1(width_factor=0.01).channels == (
            8,
            8,
            8,
            10,
        )  # int(1024 * .01), never below 8
        assert list(CSPDarknet(width_factor=1.0, depth=1.0).channels) == [128, 256, 512, 1024]
        deep = CSPDarknet(depth=1.0)
    blocks = [len(stage[1].blocks) for stage in (deep.stage1, deep.stage2, deep.stage3)]
    assert blocks == [2, 8, 8]


def test_the_stem_for_small_images():
    small = shapes_only("resnet18_cifar")
    assert small.strides == (1, 2, 4, 8)
    assert small.conv1.weight.shape == (64, 3, 3, 3)
    assert sizes(small, 32, 32) == [(32, 32), (16, 16), (8, 8), (4, 4)]


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith(("mobilenet", "darknet"))
                                  and not n.endswith("ssd")])  # fmt: skip
def test_a_map_is_the_last_of_its_stride(name):
    net = shapes_only(name)
    x, seen = torch.empty(1, 3, 224, 224, device="meta"), {}
    for i, layer in enumerate(net.layers()):
        x = layer(x)
        seen[224 // x.shape[2]] = i
    assert list(net.taps) == [seen[stride] for stride in (4, 8, 16, 32)]


def test_option_a_takes_every_second_cell_and_pads_the_channels_on_both_sides():
    x = torch.arange(18.0).view(1, 2, 3, 3)
    corners = x[:, :, [0, 2]][..., [0, 2]]  # rows and columns 0 and 2
    zero = torch.zeros(1, 1, 2, 2)
    assert torch.equal(ZeroPadded(2, 4)(x), torch.cat([zero, corners, zero], 1))
    # arXiv 1512.03385, table 6: .27M parameters of 20 layers, .85M of 56; the classifier has 650
    assert count(ResNetCIFAR()) == 269_722 - 650 and count(ResNetCIFAR(depth=56)) == 853_018 - 650


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_maps_of_googlenet():
    net = shapes_only("googlenet")
    names = [name for name, _ in net.named_children()]
    assert [names[tap].removeprefix("inception") for tap in net.taps] == [
        "conv3", "3b", "4a", "4d", "4e", "5b"
    ]  # fmt: skip


def test_the_first_layers_of_table_1_of_mobilenet():
    net = shapes_only("mobilenet_v1_025")
    assert net.stage1[0][0].weight.shape == (8, 3, 3, 3)
    assert net.stage1[1][0].weight.shape == (8, 1, 3, 3)  # depthwise
    assert kinds(net.stage1[1]) == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2


@without_timm
def test_timm_in_its_own_words(monkeypatch):
    import timm

    net = Timm(name="mobilenetv3_small_050")
    assert net.pretrained is None and net.strides == (4, 8, 16, 32)
    with pytest.raises(UserError, match="did you mean 'mobilenetv3_small_050'"):
        Timm(name="mobilenetv3_smal_050")
    made = timm.create_model

    def without_fetching(name, pretrained, **options):
        assert pretrained and name == "mobilenetv3_small_050"
        return made(name, **options)

    monkeypatch.setattr(timm, "create_model", without_fetching)
    said = Timm(name="mobilenetv3_small_050", weights="DEFAULT").pretrained.preprocessing
    assert (said.size, said.resize, said.interpolation) == (224, 256, "bicubic")

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(UserError, match="no route to host.*backbone.weights=FILE"):
        Timm(name="mobilenetv3_small_050", weights="DEFAULT")


class FakeSwin(nn.Module):
    """What timm gives for Swin: two maps, their channels last, from images of 32 pixels only."""

    feature_info = SimpleNamespace(channels=lambda: [4, 8], reduction=lambda: [4, 8])
    pretrained_cfg: ClassVar = {"input_size": (3, 32, 32)}

    def __init__(self, channels_last):
        super().__init__()
        self.layers_0, self.layers_1 = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 8, 2, 2)
        self.channels_last = channels_last

    def forward(self, x):
        assert x.shape[2] == 32, f"Input height ({x.shape[2]}) doesn't match model (32)."
        first = self.layers_0(x)
        maps = [first, self.layers_1(first)]
        return [m.permute(0, 2, 3, 1) for m in maps] if self.channels_last else maps


def fake_timm(monkeypatch, channels_last, **more):
    def create_model(name, features_only, pretrained):
        torch.manual_seed(0)
        net = FakeSwin(channels_last)
        vars(net).update(more)
        return net

    fake = SimpleNamespace(list_models=lambda: ["swin"], create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", fake)
    return Timm(name="swin")


def test_maps_of_timm_whose_channels_stand_last_are_turned(monkeypatch):
    images = torch.randn(2, 3, 32, 64)  # the second map is 4 x 8: as wide as it has channels
    plain = fake_timm(monkeypatch, False, output_fmt="NCHW")(images)
    assert [m.shape[1:] for m in plain] == [(4, 8, 16), (8, 4, 8)]
    for more in ({"output_fmt": "NHWC"}, {}):  # older versions do not say
        for got, want in zip(fake_timm(monkeypatch, True, **more)(images), plain, strict=True):
            assert torch.equal(got, want)


def test_a_size_that_timm_does_not_take_is_said_with_the_one_it_takes(monkeypatch):
    made = fake_timm(monkeypatch, True)
    with pytest.raises(UserError, match=r"image_size=\[64, 64\]: .*swin .*set image_size=32"):
        made(torch.randn(1, 3, 64, 64))


def test_timms_own_files_load_by_the_names_of_the_whole_network(monkeypatch, tmp_path):
    made = fake_timm(monkeypatch, True)
    layers = {f"layers.{i}.{k}": torch.full_like(v, 3) for i in (0, 1)
              for k, v in getattr(made.net, f"layers_{i}").state_dict().items()}  # fmt: skip
    torch.save(layers | {"head.fc.weight": torch.zeros(5, 8)}, tmp_path / "swin.pth")
    made = Timm(name="swin", weights=str(tmp_path / "swin.pth"))
    assert all((tensor == 3).all() for tensor in made.state_dict().values())
    torch.save(layers | {"layers.2.weight": torch.zeros(1)}, tmp_path / "longer.pth")
    with pytest.raises(UserError, match="another network: 4 of the backbone's 4"):
        Timm(name="swin", weights=str(tmp_path / "longer.pth"))


def test_timm_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="pip install timm"):
        Timm(name="resnet18")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ResNet, {"name": "resnet19"}, "resnet19: expected one of resnet18"),
        (ResNet, {"name": "resnet18", "stem": "mnist"}, "stem=mnist: expected imagenet or cifar"),
        (VGG, {"name": "vgg12"}, "vgg12: expected one of vgg11"),
        (AlexNet, {"name": "alexnet_2013"}, "alexnet_2013: expected one of alexnet"),
        (ResNetCIFAR, {"shortcut": "B"}, "shortcut=B: expected zeros or projection"),
        (MobileNet, {"name": "mobilenet_v4"}, "mobilenet_v4: expected one of mobilenet_v2"),
        (MobileNetV1, {"width_factor": 0.0}, "width_factor=0.0: expected a factor above 0"),
        (MobileNetV1, {"order": "bn-conv-act"}, "bn-conv-act: expected conv-bn-act or conv-act-bn"),
        (Darknet19, {"dropout": 1.0}, "dropout=1.0: expected a share from 0 to below 1"),
        (CSPDarknet, {"depth": -1.0}, "depth=-1.0: expected factors above 0"),
        (ViT, {"name": "vit_x"}, "vit_x: expected one of vit_b_16"),
        (ViT, {"name": "vit_tiny", "positions": 100}, "positions=100: expected a multiple of 16"),
        (Darknet53, {"weights": "DEFAULT"}, "weights=DEFAULT: no such file; expected a file"),
    ],
)
def test_what_is_refused(kind, options, message):
    with pytest.raises(UserError, match=message), torch.device("meta"):
        kind(**options)


def test_alexnet_says_how_small_an_image_may_be():
    net = shapes_only("alexnet")
    assert sizes(net, 63, 63)[-1] == (1, 1)
    with pytest.raises(UserError, match=r"image_size=\[62, 99\]: AlexNet needs 63"):
        sizes(net, 62, 99)
