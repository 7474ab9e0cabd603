"""Which files a network takes: its own and no other's, whatever stands before or beside them."""

import logging
import struct
from functools import cache

import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from torch import nn

from classify.backbones.csp_darknet import CSPDarknet
from classify.backbones.mobilenet import MobileNetV1
from classify.backbones.resnet_cifar import ResNetCIFAR
from engine.builders.instantiate import part
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.network_protocols import BackboneOptions
from engine.weights import darknet
from engine.weights.match import LEAST, match
from engine.weights.pretrained import load

PRESETS = [path.stem for path in sorted((CONFIGS / "backbone").glob("*.yaml"))]
PRESETS.remove("timm")
# What a network may take besides its own, to train on: the same layers but for a few that it names.
RELATED = {
    ("vgg16", "vgg16_ssd"), ("vgg16_ssd", "vgg16"),  # a classifier's under a detector, and back
    ("resnet18", "resnet18_cifar"), ("resnet18_cifar", "resnet18"),  # another first convolution
    ("vit_b_16", "vit_b_16_token"), ("vit_b_16_token", "vit_b_16"),  # one network, two outputs
}  # fmt: skip
VARIANTS = {
    **{f"cifar {depth}": (ResNetCIFAR, {"depth": depth}) for depth in (20, 32, 44, 56, 110, 116)},
    "cifar 20 B": (ResNetCIFAR, {"depth": 20, "shortcut": "projection"}),
    "cifar 20 wide": (ResNetCIFAR, {"depth": 20, "base_channels": 32}),
    **{f"mobilenet {f}": (MobileNetV1, {"width_factor": f}) for f in (0.25, 0.5, 1.0)},
    **{f"csp {d}": (CSPDarknet, {"depth": d}) for d in (0.33, 0.67, 1.0, 1.33)},
    "csp wide": (CSPDarknet, {"width_factor": 1.0}),
}
# A file of option A fills all of option B but its two projections: good to train on from.
OPTION_A = ("cifar 20", "cifar 20 B")


@cache
def made(name):
    """The tensors of a network, without numbers, and the prefixes of those that may lack."""
    with torch.device("meta"):
        if name in VARIANTS:
            kind, options = VARIANTS[name]
            net = kind(**options)
        else:
            net = part(OmegaConf.load(CONFIGS / f"backbone/{name}.yaml"), "backbone")
    return net.state_dict(), BackboneOptions.extra_prefixes.of(net)


def file_of(name, prefix=""):
    """A network's tensors with a classifier of 1000 classes, as a file has them."""
    head = {"fc.weight": torch.empty(1000, 7, device="meta"), "fc.bias": torch.empty(1000)}
    return {f"{prefix}{key}": value for key, value in (made(name)[0] | head).items()}


def fits(name, state):
    wanted, extra = made(name)
    return match(wanted, state, extra).fits


def test_a_network_takes_its_own_files_and_no_other_ones():
    assert len(PRESETS) > 30
    for names, related in ((PRESETS, RELATED), (list(VARIANTS), {OPTION_A})):
        for file in names:
            state = file_of(file)
            taken = {(file, name) for name in names if fits(name, state)}
            assert taken == {(file, file)} | {pair for pair in related if pair[0] == file}


TORCHVISION = ["resnet18", "resnet34", "resnet50", "vgg11", "vgg16_bn", "mobilenet_v2",
               "mobilenet_v3_small", "alexnet", "googlenet", "vit_b_16"]  # fmt: skip
OTHERS = ["resnext50_32x4d", "wide_resnet50_2", "squeezenet1_0"]


@cache
def torchvisions(name):
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None, **options).state_dict()


def test_torchvisions_files_fit_the_network_of_their_name_alone():
    for file in [*TORCHVISION, *OTHERS]:
        taken = {name for name in TORCHVISION if fits(name, torchvisions(file))}
        assert taken == {file} & set(TORCHVISION)


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "backbone.", "module.backbone.body.", "_orig_mod.", "net."]
)
def test_any_common_prefix_is_taken_off(prefix):
    assert fits("resnet18", file_of("resnet18", prefix))
    assert not fits("resnet18", file_of("resnet34", prefix))
    assert not fits("resnet34", file_of("resnet18", prefix))


def test_a_second_network_under_a_prefix_of_its_own_is_left_over():
    both = file_of("resnet18", "student.") | file_of("resnet34", "teacher.")
    assert fits("resnet18", both) and fits("resnet34", both) and not fits("resnet50", both)


def test_a_tenth_may_be_missing_but_no_more_and_no_whole_end_of_a_row():
    state = made("resnet18")[0]
    wanted = [key for key in state if not key.endswith("num_batches_tracked")]
    assert len(wanted) == 100 and LEAST == 0.9  # 20 convolutions, and 4 for each's normalisation
    inner = [k for k in wanted if ".0." in k]  # the first of two blocks in every layer
    for lost, good in ((10, True), (11, False)):
        assert fits("resnet18", {k: v for k, v in state.items() if k not in inner[:lost]}) is good
    assert not fits("resnet18", {k: v for k, v in state.items() if "layer1.1" not in k})


def test_a_tensor_of_another_shape_is_named_with_both_shapes():
    state = dict(made("resnet18")[0]) | {"conv1.weight": torch.empty(64, 1, 7, 7)}
    found = match(made("resnet18")[0], state)
    assert found.fits and found.missing == ["conv1.weight"]
    assert "99 of the backbone's 100 tensors matched" in found.counts
    assert "(conv1.weight: [64, 3, 7, 7], file [64, 1, 7, 7])" in found.counts


def test_what_is_left_over_of_a_longer_network_is_named():
    found = match(made("resnet18")[0], torchvisions("resnet34"))
    assert "100 of the backbone's 100 tensors matched" in found.counts
    assert "82 of the file left over (layer1.2.bn1.bias, layer1.2." in found.counts


def test_pytorch_cifars_names_are_known():
    names = {k.replace(".downsample.", ".shortcut."): v for k, v in file_of("resnet18").items()}
    assert any("shortcut" in key for key in names) and fits("resnet18", names)


@pytest.mark.parametrize("key", ["layer1." + "9" * 5000, "layer1.²", "", ".", "..", "layer9.0.x"])
def test_odd_names_are_left_over(key):
    state = dict(made("resnet18")[0]) | {key: torch.empty(1)}
    assert key in match(made("resnet18")[0], state).unused


def darknet_file(net, path, more=0):
    """Write a network's numbers as Darknet does: no names, a normalisation before its weights."""
    numbers = [tensor.detach().flatten() for _, tensor in darknet._order(net)]
    numbers.append(torch.rand(more) - 0.5)
    header = struct.pack("<5i", 0, 2, 0, 0, 0)
    path.write_bytes(header + torch.cat(numbers).numpy().tobytes())


SMALL = {  # convolutions of three networks; Darknet's files say nothing of their sizes
    "short": [(3, 4), (4, 8)],
    "long": [(3, 4), (4, 8), (8, 4), (4, 8)],
    "wide": [(3, 6), (6, 8)],
}


def stack(name):
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Conv2d(a, b, 3, bias=False), nn.BatchNorm2d(b))
              for a, b in SMALL[name]]  # fmt: skip
    net = nn.Sequential(*layers)
    net.channels = [8]
    return net


def test_a_darknet_file_fits_its_own_network_alone(tmp_path):
    for file in SMALL:
        darknet_file(stack(file), tmp_path / "a.weights")
        for name in SMALL:
            if name == file or (file, name) == ("long", "short"):  # as layers of a detector follow
                load(stack(name), str(tmp_path / "a.weights"), None)
                continue
            with pytest.raises(UserError, match="of another network"):
                load(stack(name), str(tmp_path / "a.weights"), None)


def test_what_follows_in_a_darknet_file_is_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO, "onelook")
    darknet_file(stack("short"), tmp_path / "net.conv.2", more=11)  # no multiple of 8 + 1
    assert load(stack("short"), str(tmp_path / "net.conv.2"), None).unused_tensors == {}
    assert "11 numbers behind the backbone's layers left over" in caplog.text
    data = (tmp_path / "net.conv.2").read_bytes()
    (tmp_path / "cut.weights").write_bytes(data[:-2])
    with pytest.raises(UserError, match="no whole number of weights: it is cut short"):
        load(stack("short"), str(tmp_path / "cut.weights"), None)
