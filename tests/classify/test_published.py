"""Backbones held against what is published: parameters, cost, torchvision's nets, weight files."""

import numpy as np
import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from classify.backbones.alexnet import AlexNet
from classify.backbones.darknet import Darknet19, Darknet53, DarknetTiny
from classify.backbones.googlenet import GoogLeNet
from classify.backbones.mobilenet import MobileNetV1
from classify.backbones.vit import ViT
from engine.builders.instantiate import part
from engine.config.schema import CONFIGS
from engine.errors import UserError


def make(name, **options):
    return part(OmegaConf.merge(OmegaConf.load(CONFIGS / f"backbone/{name}.yaml"), options), name)


def classifier(name, width, classes):
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if name.startswith("vgg"):
        fill = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(25088, 4096))
        return nn.Sequential(fill, nn.Linear(4096, 4096), nn.Linear(4096, classes))
    if name.startswith("alexnet"):
        fill = nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Linear(9216, 4096))
        return nn.Sequential(fill, nn.Linear(4096, 4096), nn.Linear(4096, classes))
    if name.startswith("mobilenet_v3"):
        middle = {"small": 1024, "large": 1280}[name.split("_")[-1]]
        return nn.Sequential(pool, nn.Linear(width, middle), nn.Linear(middle, classes))
    if name == "darknet19":  # as the paper computes it: on every cell, the mean of the map after it
        return nn.Conv2d(width, classes, 1)
    return nn.Sequential(pool, nn.Linear(width, classes))


def count(*modules):
    return sum(p.numel() for m in modules for p in m.parameters())


PARAMETERS = {
    "alexnet_2012": 60_965_224,
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "googlenet": 6_624_904,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v1_025": 470_072,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_small": 2_542_856,
    "mobilenet_v3_large": 5_483_032,
    "darknet19": 20_842_376,
    "darknet53": 41_609_928,
}
TWENTY = {
    "resnet18": 11_186_772,
    "resnet34": 21_294_932,
    "resnet50": 23_549_012,
    "vgg16": 134_342_484,
    "mobilenet_v2": 2_249_492,
}
TORCHVISIONS = {"vgg13", "vgg19", "vgg11_bn", "vgg13_bn", "vgg19_bn", "resnet152", "vit_b_16"} | {
    name for name in PARAMETERS if not name.startswith(("darknet", "mobilenet_v1", "alexnet_"))
}


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [(n, 1000, v) for n, v in PARAMETERS.items()] + [(n, 20, v) for n, v in TWENTY.items()],
)
def test_number_of_parameters(name, classes, expected):
    with torch.device("meta"):
        backbone = make(name)
        assert count(backbone, classifier(name, backbone.channels[-1], classes)) == expected


def test_number_of_parameters_of_parts():
    with torch.device("meta"):
        assert count(Darknet53()) == 40_584_928
        # of the file's 8,858,734 numbers 2,560,254 are the head's, 4,064 means and variances
        assert count(DarknetTiny()) == 8_858_734 - 2_560_254 - 4_064
        auxiliary = [  # table 1 and section 5: 1x1 convolution with normalisation, two layers
            (nn.Conv2d(width, 128, 1, bias=False), nn.BatchNorm2d(128), nn.Linear(2048, 1024),
             nn.Linear(1024, 1000)) for width in GoogLeNet.channels[2:4]
        ]  # fmt: skip
        whole = count(GoogLeNet(), nn.Linear(1024, 1000), *auxiliary[0], *auxiliary[1])
    assert whole == 13_004_888


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alexnet", "0.714"),
        ("vgg11", "7.609"),
        ("vgg16", "15.47"),
        ("vgg16_bn", "15.47"),
        ("googlenet", "1.498"),
        ("resnet18", "1.814"),
        ("resnet34", "3.664"),
        ("resnet50", "4.089"),
        ("resnet101", "7.801"),
        ("mobilenet_v1", "0.56874"),
        ("mobilenet_v2", "0.301"),
        ("mobilenet_v3_small", "0.057"),
        ("mobilenet_v3_large", "0.217"),
        ("darknet19", "2.791"),
    ],
)
def test_billions_of_multiplications_at_224(name, expected):
    with torch.device("meta"):
        backbone = make(name).eval()
        head = classifier(name, backbone.channels[-1], 1000)
        with FlopCounterMode(display=False) as counter:
            head(backbone(torch.empty(1, 3, 224, 224))[-1])
    digits = len(expected.split(".")[1])
    assert f"{counter.get_total_flops() / 2e9:.{digits}f}" == expected


def theirs(name, **options):
    """torchvision's network, its numbers not yet set."""
    options |= {"googlenet": {"aux_logits": False, "init_weights": False}}.get(name, {})
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None, **options).eval()


@pytest.mark.parametrize("name", sorted(TORCHVISIONS))
def test_names_and_shapes_are_torchvisions(name):
    with torch.device("meta"):
        ours = {k: v.shape for k, v in make(name).state_dict().items()}
        known = {k: v.shape for k, v in theirs(name).state_dict().items()}
    assert ours.items() <= known.items()
    left = {key.split(".")[0] for key in known.keys() - ours.keys()}
    assert left <= {"fc", "classifier", "heads"} and left


def filled(net):
    """With numbers of its own everywhere: no two normalisations alike, no bias zero."""
    torch.manual_seed(0)
    net.to_empty(device="cpu")
    for key, tensor in net.state_dict().items():
        if tensor.ndim > 1:
            nn.init.kaiming_normal_(tensor)
        elif "var" in key or "weight" in key:
            nn.init.uniform_(tensor, 0.75, 1.25)
        elif tensor.is_floating_point():
            nn.init.normal_(tensor, std=0.1)
        else:
            tensor.zero_()
    return net


def same(name, net, **options):
    """Our network of a name with the numbers of torchvision's."""
    with torch.device("meta"):
        ours = make(name, **options).eval().to_empty(device="cpu")
    state = net.state_dict()
    ours.load_state_dict({key: state[key] for key in ours.state_dict()})
    return ours


SOME = ["alexnet", "vgg11", "vgg13_bn", "googlenet", "resnet18", "resnet34", "resnet50",
        "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"]  # fmt: skip


@pytest.mark.parametrize("name", SOME)
def test_equals_torchvisions_network(name):
    net = theirs(name)
    if name.startswith(("vgg", "alexnet")):
        net.classifier = nn.Identity()  # 100 million numbers that are not looked at
    net = filled(net)
    ours = same(name, net)
    names = {id(module): key for key, module in ours.named_modules()}
    layers = list(ours.layers())
    expected = []
    for tap in ours.taps:
        net.get_submodule(names[id(layers[tap])]).register_forward_hook(
            lambda _, __, out: expected.append(out.clone())
        )
    images = torch.randn(2, 3, 65, 96)
    with torch.no_grad():
        net(images)
        maps = ours(images)
    torch.testing.assert_close(maps, expected)
    assert all(m.std() > 0.01 for m in maps)


def test_equals_torchvisions_transformer():
    net = filled(theirs("vit_b_16", num_classes=7))
    ours = same("vit_b_16_token", net)
    images = torch.randn(1, 3, 224, 224)
    seen = []
    net.encoder.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        logits = net(images)
        (token,) = ours(images)
        ours.token = False
        (patches,) = ours(images)
        said = net.heads(token.flatten(1))
    assert token.shape == (1, 768, 1, 1) and patches.shape == (1, 768, 14, 14)
    torch.testing.assert_close(said, logits)
    torch.testing.assert_close(patches[0, :, 2, 5], seen[0][0, 1 + 2 * 14 + 5])


def test_positions_follow_the_grid():
    net = ViT(name="vit_tiny", positions=64)  # 4 x 4 cells
    known = net.encoder.pos_embedding
    assert net._positions(4, 4) is known
    rows = torch.arange(4.0).repeat_interleave(4)  # 0 0 0 0 1 1 1 1 ...: the row says all
    with torch.no_grad():
        known.copy_(torch.cat([torch.tensor([-9.0]), rows])[None, :, None].expand_as(known))
        got = net._positions(8, 3)[0, :, 0]
    assert len(got) == 1 + 8 * 3 and got[0] == -9
    grid = got[1:].view(8, 3)
    torch.testing.assert_close(grid, grid[:, :1].expand(8, 3))
    assert (grid[1:, 0] > grid[:-1, 0]).all()


def test_positions_of_another_grid_are_refused(tmp_path):
    torch.save(ViT(name="vit_tiny", positions=48).state_dict(), tmp_path / "vit.pt")
    weights = str(tmp_path / "vit.pt")
    with pytest.raises(UserError, match="for images of 48 pixels.*set backbone.positions=48"):
        ViT(name="vit_tiny", weights=weights)
    ours = ViT(name="vit_tiny", positions=48, weights=weights)
    assert torch.equal(ours.class_token, torch.load(weights)["class_token"])


def test_response_normalisation_is_the_papers():
    layer = AlexNet(name="alexnet_2012").features[2]
    a = torch.randn(1, 9, 2, 2) * 40  # large, so that the sum weighs as much as k
    n, k, alpha, beta = 5, 2, 1e-4, 0.75  # section 3.3
    for i in range(9):
        near = a[:, max(0, i - n // 2) : min(8, i + n // 2) + 1]
        expected = a[:, i] / (k + alpha * near.square().sum(1)) ** beta
        torch.testing.assert_close(layer(a)[:, i], expected)


def test_alexnet_as_published():
    torch.manual_seed(0)
    net = AlexNet(name="alexnet_2012")
    kinds = [type(layer).__name__ for layer in net.features]
    assert kinds[:8] == ["Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d"] * 2
    convolutions = [layer for layer in net.features if isinstance(layer, nn.Conv2d)]
    assert [c.groups for c in convolutions] == [1, 2, 1, 2, 2]
    assert [c.bias.unique().tolist() for c in convolutions] == [[0], [1], [0], [1], [1]]
    for c in convolutions:
        assert c.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_the_pretrained_mobilenet_fits(tmp_path):
    # A file of the published layout; the real one is in shared/data and as large as the network.
    net = filled(MobileNetV1(width_factor=0.25))
    state = {f"module.{key}": tensor for key, tensor in net.state_dict().items()}
    head = {"module.fc.weight": torch.randn(1000, 256), "module.fc.bias": torch.randn(1000)}
    assert len(state | head) == 164  # as many tensors as the published file has
    assert state["module.stage1.1.3.weight"].shape == (16, 8, 1, 1)
    assert state["module.stage3.1.4.bias"].shape == (256,)
    torch.save({"state_dict": state | head}, tmp_path / "net.tar")
    ours = MobileNetV1(width_factor=0.25, weights=str(tmp_path / "net.tar"))
    assert set(ours.pretrained.unused_tensors) == {"fc.weight", "fc.bias"}
    for key, tensor in ours.state_dict().items():
        assert torch.equal(tensor, net.state_dict()[key]), key


@pytest.mark.parametrize("weights", ["DEFAULT", "googlenet-1378be20.pth", "mine.pth"])
def test_torchvisions_googlenet_expects_its_own_normalisation(tmp_path, monkeypatch, weights):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    name = "googlenet-1378be20.pth" if weights == "DEFAULT" else weights
    path = tmp_path / "checkpoints" / name
    torch.save(filled(theirs("googlenet")).state_dict(), path)
    got = GoogLeNet(weights="DEFAULT" if weights == "DEFAULT" else str(path)).pretrained
    half = weights != "mine.pth"
    assert (got.preprocessing.mean == (0.5, 0.5, 0.5)) == half
    assert (got.preprocessing.std == (0.5, 0.5, 0.5)) == half
    assert got.preprocessing.size == 224 and set(got.unused_tensors) == {"fc.weight", "fc.bias"}


def meta(kind):
    with torch.device("meta"):
        return kind()


def darknet_file(path, net, minor=2, classes=0):
    """By the format's rule: a header, then of each convolution its normalisation and weights."""
    seen = np.zeros(1, np.int64 if minor >= 2 else np.int32)
    numbers = []
    for block in (m for m in net.modules() if isinstance(m, nn.Sequential)):
        if len(block) == 3 and isinstance(block[0], nn.Conv2d):
            conv, norm = block[0], block[1]
            numbers += [norm.bias, norm.weight, norm.running_mean, norm.running_var, conv.weight]
    if classes:
        numbers += [torch.arange(classes) / 7, torch.randn(classes, net.channels[-1])]
    flat = torch.cat([n.detach().flatten() for n in numbers]).numpy().astype(np.float32)
    path.write_bytes(np.array([0, minor, 0], np.int32).tobytes() + seen.tobytes() + flat.tobytes())
    return numbers[-1]


@pytest.mark.parametrize(("kind", "minor"), [(Darknet19, 1), (Darknet19, 2), (Darknet53, 2)])
def test_darknets_own_files(tmp_path, kind, minor):
    net = filled(meta(kind))
    last = darknet_file(tmp_path / "net.weights", net, minor, classes=10)
    ours = kind(weights=str(tmp_path / "net.weights"))
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[key]), key
    unused_tensors = ours.pretrained.unused_tensors
    assert torch.equal(unused_tensors["classifier.weight"], last)
    torch.testing.assert_close(unused_tensors["classifier.bias"], torch.arange(10) / 7)
    assert ours.pretrained.preprocessing.mean == (0, 0, 0)


def test_a_darknet_file_without_a_classifier_or_cut_short(tmp_path):
    path = tmp_path / "net.weights"
    darknet_file(path, filled(meta(Darknet19)))
    assert Darknet19(weights=str(path)).pretrained.unused_tensors == {}
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="features.22.0.weight: .*cut short"):
        Darknet19(weights=str(path))
    path.write_bytes(b"\x80\x02" * 100)
    with pytest.raises(UserError, match="no Darknet file"):
        Darknet19(weights=str(path))
