"""Weights from files and names: what is read, matched and refused, and how it is said."""

import builtins
import hashlib
import io
import logging
import os
import pickle
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from classify.backbones.mobilenet import MobileNet, MobileNetV1
from classify.backbones.resnet import ResNet
from classify.heads.linear import Linear
from classify.heads.mlp import MLP
from engine.errors import UserError
from engine.structures import Preprocessing
from engine.weights import checkpoint
from engine.weights.pretrained import fill

NAME = "mobilenet_v3_small"
FILE = "mobilenet_v3_small-047dcff4.pth"


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(3)
    return MobileNetV1(width_factor=0.25)


def state(source, prefix=""):
    head = {"fc.weight": torch.randn(7, 256), "fc.bias": torch.randn(7)}
    return {f"{prefix}{key}": value for key, value in (source.state_dict() | head).items()}


def read(path):
    return MobileNetV1(width_factor=0.25, weights=str(path))


def same(a, b):
    mine, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(mine[key], theirs[key]) for key in theirs)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "onelook")
    return caplog


@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
def test_a_state_dict_wherever_it_stands(tmp_path, source, prefix, key):
    held = state(source, prefix)
    content = held if key is None else {"epoch": 3, "arch": "other", key: held}
    torch.save(content, tmp_path / "a.pth")
    made = read(tmp_path / "a.pth")
    assert same(made, source)
    assert set(made.pretrained.unused_tensors) == {"fc.weight", "fc.bias"}
    assert made.pretrained.classes is None
    assert made.pretrained.preprocessing == Preprocessing()


def test_a_legacy_file_without_batch_counters(tmp_path, source, said):
    held = {k: v for k, v in state(source).items() if not k.endswith("num_batches_tracked")}
    torch.save(held, tmp_path / "a.tar", _use_new_zipfile_serialization=False)
    assert same(read(tmp_path / "a.tar").stage1, source.stage1)
    digest = hashlib.sha256((tmp_path / "a.tar").read_bytes()).hexdigest()
    # 27 convolutions and as many normalisations of 4 tensors: 27 + 27 * 4
    assert "135 of the backbone's 135 tensors matched, 2 of the file left over" in said.text
    assert f"sha256 {digest}" in said.text


def test_what_is_missing_is_counted_and_named(tmp_path, source, said):
    held = state(source)
    del held["stage3.1.3.weight"]
    torch.save(held, tmp_path / "a.pth")
    read(tmp_path / "a.pth")
    assert "134 of the backbone's 135 tensors matched (stage3.1.3.weight), " in said.text


def test_another_networks_weights_are_refused_and_nothing_is_loaded(tmp_path, source):
    torch.save(MobileNetV1(width_factor=0.5).state_dict(), tmp_path / "a.pth")
    with pytest.raises(
        UserError, match=r"another network: .* of the backbone's 135 .* at least 90"
    ):
        read(tmp_path / "a.pth")


def test_a_tenth_may_be_missing_but_no_more(tmp_path, source):
    wanted = [k for k in source.state_dict() if not k.endswith("num_batches_tracked")]  # 135
    for lost, good in ((13, True), (14, False)):  # 122 / 135 = .904, 121 / 135 = .896
        held = {k: v for k, v in source.state_dict().items() if k not in wanted[:lost]}
        torch.save(held, tmp_path / "a.pth")
        if good:
            read(tmp_path / "a.pth")
        else:
            with pytest.raises(UserError, match="121 of the backbone's 135"):
                read(tmp_path / "a.pth")


def test_a_checkpoint_of_this_program_brings_its_preprocessing_and_classes(tmp_path, source):
    model = {f"backbone.{k}": v + 1 for k, v in source.state_dict().items()}
    average = {f"backbone.{k}": v for k, v in source.state_dict().items()}
    average |= {"head.linear.weight": torch.randn(2, 256), "head.linear.bias": torch.randn(2)}
    said = {"size": [160, 192], "fit": "crop", "resize": 1.25, "interpolation": "bicubic",
            "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0], "colour": "BGR"}  # fmt: skip
    content = {"config": {}, "classes": ["ant", "bee"], "model": model, "epoch": 1,
               "ema": {**average, "mean": torch.zeros(3, 1, 1)}, "preprocessing": said}  # fmt: skip
    checkpoint.save(tmp_path / "best.pt", content)
    made = read(tmp_path / "best.pt")
    assert same(made, source)  # the average where there is one
    assert made.pretrained.classes == ["ant", "bee"]
    assert set(made.pretrained.unused_tensors) == {"head.linear.weight", "head.linear.bias"}
    expected = Preprocessing(192, 240, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "bicubic", "BGR")
    assert made.pretrained.preprocessing == expected


@pytest.fixture
def opens(monkeypatch):
    """The paths that are opened, by Python's or by pathlib's open."""
    paths, real = [], builtins.open

    def count(file, *args, **kwargs):
        paths.append(str(file))
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", count)
    monkeypatch.setattr(io, "open", count)
    return paths


def save(kind, path, net):
    """Write the weights of `net` as such a file."""
    weights = {f"backbone.{k}": v for k, v in net.state_dict().items()}
    if kind == "checkpoint":
        preprocessing = {"size": [32, 32], "fit": "crop", "resize": None, "interpolation": None,
                         "mean": [0.0] * 3, "std": [1.0] * 3, "colour": "RGB"}  # fmt: skip
        checkpoint.save(path, {"config": {}, "classes": ["ant"], "model": weights, "epoch": 1,
                               "ema": None, "preprocessing": preprocessing})  # fmt: skip
    elif kind == "Darknet":
        count = sum(v.numel() for k, v in net.state_dict().items() if "tracked" not in k)
        data = np.arange(count, dtype=np.float32).tobytes()
        path.write_bytes(np.array([0, 2, 0, 0, 0], np.int32).tobytes() + data)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=kind == "zip")


@pytest.mark.parametrize("kind", ["zip", "legacy", "checkpoint", "Darknet"])
def test_a_weights_file_is_opened_once_and_its_hash_is_shown(tmp_path, source, kind, opens, caplog):
    path = tmp_path / ("a.weights" if kind == "Darknet" else "a.pth")
    save(kind, path, source)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    opens.clear()
    caplog.set_level(logging.INFO, "onelook")
    read(path)
    assert opens.count(str(path)) == 1
    assert f"sha256 {digest}" in caplog.text


def test_a_published_file_is_opened_once(cache, opens):
    torch.save(torchvision.models.get_model(NAME, weights=None).state_dict(), cache / FILE)
    opens.clear()
    MobileNet(name=NAME, weights="DEFAULT")
    assert opens.count(str(cache / FILE)) == 1


class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def test_no_code_of_a_file_is_run(tmp_path):
    path, canary = tmp_path / "a.pth", tmp_path / "canary"
    path.write_bytes(pickle.dumps({"state_dict": Evil(canary)}))
    with pytest.raises(UserError, match="nothing else is ever unpickled"):
        read(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no weights", "cannot be read as weights"),
        ([1, 2], "expected tensors by name, got a list"),
        ({"epoch": 1}, r"no tensors by name in it \(it holds epoch\)"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "a.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=message):
        read(path)


def test_no_such_file_or_name():
    with pytest.raises(
        UserError, match=r"weights=nowhere.pth: no such file; expected a file .torchvision has none"
    ):
        MobileNetV1(weights="nowhere.pth")
    with pytest.raises(UserError, match="expected a file, or DEFAULT, IMAGENET1K_V1; did you mean"):
        MobileNet(name=NAME, weights="IMAGENET1K_V")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_torchvisions_name_reads_the_cache_without_a_network(cache, monkeypatch):
    def fetch(*args):
        raise AssertionError("nothing is to be fetched")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    net = torchvision.models.get_model(NAME, weights=None)
    torch.save(net.state_dict(), cache / FILE)
    made = MobileNet(name=NAME, weights="DEFAULT")
    assert torch.equal(made.features[0][0].weight, net.features[0][0].weight)
    assert made.pretrained.classes[281] == "tabby" and len(made.pretrained.classes) == 1000
    assert made.pretrained.preprocessing == Preprocessing(224, 256)


def test_a_newer_recipe_brings_its_own_size(cache):
    net = torchvision.models.get_model("resnet50", weights=None)
    torch.save(net.state_dict(), cache / "resnet50-11ad3fa6.pth")
    made = ResNet(name="resnet50", weights="IMAGENET1K_V2")
    assert (made.pretrained.preprocessing.size, made.pretrained.preprocessing.resize) == (224, 232)


def test_without_file_and_network_the_message_names_both(cache, monkeypatch):
    def fetch(*args):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    with pytest.raises(UserError) as caught:
        MobileNet(name=NAME, weights="DEFAULT")
    message = str(caught.value)
    assert f"{FILE} is not in {cache} and cannot be fetched" in message
    assert f"put {torchvision.models.MobileNet_V3_Small_Weights.DEFAULT.url} there" in message
    assert "\n" not in message


def test_a_head_is_filled_where_it_fits():
    head = Linear(channels=[4], num_classes=3, activation="softmax")
    weight, bias = torch.randn(3, 4), torch.randn(3)
    assert fill(head, {"aux.weight": torch.randn(9, 9), "fc.weight": weight, "fc.bias": bias})
    assert torch.equal(head.linear.weight, weight) and torch.equal(head.linear.bias, bias)
    assert not fill(head, {"fc.weight": torch.randn(2, 4), "fc.bias": torch.randn(2)})
    assert torch.equal(head.linear.weight, weight)
    assert not fill(head, {})


def test_a_head_of_several_layers_is_filled_in_order():
    head = MLP(channels=[2], num_classes=3, activation="softmax", grid=1, hidden=[5])
    theirs = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3))
    assert fill(head, theirs.state_dict())
    x = torch.randn(6, 2)
    torch.testing.assert_close(head.eval().classify([x[:, :, None, None]]), theirs(x))
