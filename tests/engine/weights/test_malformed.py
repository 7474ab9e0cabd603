"""Files that are no weights, or of no use: each is refused in one line that says what it is."""

import argparse
import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from classify.backbones.resnet_cifar import ResNetCIFAR
from classify.heads.linear import Linear
from engine.errors import UserError
from engine.structures import Preprocessing, Pretrained
from engine.weights import checkpoint
from engine.weights.pretrained import fill, require_complete

torch.manual_seed(0)
STATE = ResNetCIFAR(depth=8, base_channels=2).state_dict()
KEY = "layer2.0.conv1.weight"


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def changed(tensor, key=KEY):
    return saved(STATE | {key: tensor})


def zipped(**files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return file.getvalue()


def packed(content):
    """An archive of torch's, compressed by hand."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in zipfile.ZipFile(io.BytesIO(content)).namelist():
            archive.writestr(name, zipfile.ZipFile(io.BytesIO(content)).read(name))
    return file.getvalue()


def pickle_bomb():
    """A list of 32 million times nothing in 32 KB: in memory 256 MB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02](" + b"N" * 2**25 + b"e.")
        archive.writestr("a/version", "3")
    return file.getvalue()


def safetensors():
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


def old_checkpoint(**other):
    content = {"format": checkpoint.FORMAT, "config": {}, "classes": ["a"], "epoch": 1,
               "model": {f"backbone.{k}": v for k, v in STATE.items()}, "ema": None,
               "preprocessing": {"size": [32, 32], "resize": None, "interpolation": None,
                                 "mean": [0.0] * 3, "std": [1.0] * 3, "colour": "RGB"}}  # fmt: skip
    return saved(content | other)


class Evil:
    def __reduce__(self):
        return print, ("code of the file has run",)


WHOLE, LEGACY = saved(STATE), saved(STATE, _use_new_zipfile_serialization=False)
FULL = torch.full(STATE[KEY].shape, 1.0)
NOT_FILES = {
    "empty": (b"", "it is empty"),
    "text": (b"see the releases page", "it is text"),
    "web page": (b"\n<!DOCTYPE html><html>404</html>", "a web page.*download the file itself"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS.*git lfs pull"),
    "JSON": (b'{"conv1.weight": [1]}', "it is JSON"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "compressed: unpack it"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "NumPy": (b"\x93NUMPY\x01\x00" + bytes(99), "NumPy"),
    "zeros": (bytes(5000), "no file of torch's"),
    "safetensors": (safetensors(), "safetensors file: convert it once"),
    "cut zip": (WHOLE[: len(WHOLE) // 2], "cut short"),
    "one byte less": (WHOLE[:-1], "cut short|damaged"),
    "cut legacy": (LEGACY[: len(LEGACY) // 2], "damaged"),
    "other zip": (zipped(**{"readme.txt": "x"}), "no data.pkl"),
    "zip of nothing": (zipped(**{"a__data.pkl": b"", "a__version": "3"}), "damaged zip"),
    "pickle bomb": (pickle_bomb(), "that unpacks to 335544"),
    "packed zeros": (packed(changed(torch.zeros(2**23))), "that unpacks to 3356"),
    "TorchScript": (zipped(**{"a__constants.pkl": b"", "a__data.pkl": b"x"}), "TorchScript"),
    "module": (saved(nn.Linear(1, 1)), r"pickle of objects \(torch.nn.*Linear\).*state_dict\(\)"),
    "namespace": (saved({"args": argparse.Namespace(a=1), **STATE}), "objects .argparse.Namespace"),
    "pickle": (pickle.dumps(dict(a=np.zeros(2))), "a pickle"),
    "code": (saved({"a": Evil()}), "a pickle of objects"),
    "deep": (b"\x80\x02" + b"]" * 100_000 + b".", "a pickle"),
    "list": (saved([STATE]), "expected tensors by name, got a list"),
    "tensor": (saved(FULL), "expected tensors by name, got a Tensor"),
    "None": (saved(None), "expected tensors by name, got a NoneType"),
    "nothing": (saved({}), r"no tensors by name in it \(it holds nothing\)"),
    "numbers": (saved({"epoch": 1, 2: 3}), r"no tensors by name in it \(it holds 2, epoch\)"),
    "optimizer": (saved({"state": {0: {"a": FULL}}, "groups": []}), "holds groups, state|network"),
    "two": (saved({"a": STATE, "b": STATE}), r"under several keys \(a, b\)"),
    "numbered": (saved({0: FULL, 1: FULL}), "a tensor is called '0'"),
    "long name": (saved({"a." * 5000: FULL}), "a tensor is called"),
    "sparse": (changed(FULL.to_sparse()), f"{KEY} is no dense tensor"),
    "meta": (changed(FULL.to("meta")), f"{KEY} is no dense tensor"),
    "int64": (changed(FULL.long()), f"{KEY} is of int64, expected floats"),
    "uint8": (changed(FULL.byte()), f"{KEY} is of uint8, expected floats"),
    "bool": (changed(FULL.bool()), f"{KEY} is of bool, expected floats"),
    "complex": (changed(FULL + 1j), f"{KEY} is of complex64, expected floats"),
    "float8": (changed(FULL.to(torch.float8_e5m2)), f"{KEY} is of float8_e5m2, expected floats"),
    "NaN": (changed(FULL * float("nan")), f"{KEY} holds NaN"),
    "one NaN": (changed(torch.tensor([1.0, float("nan")]), "bn1.bias"), "bn1.bias holds NaN"),
    "infinite": (changed(FULL * float("inf")), f"{KEY} holds NaN or infinite"),
    "overflow": (changed(FULL.double() * 1e300), f"{KEY} holds NaN or infinite"),
    "variance": (changed(torch.tensor([1.0, -0.1]), "bn1.running_var"), "variances below 0"),
    "all NaN": (saved({k: v * float("nan") for k, v in STATE.items()}), "holds NaN"),
    "scalar": (saved({k: torch.tensor(0.0) for k in STATE}), "another network"),
    "no value": (saved(dict.fromkeys(STATE)), "no tensors by name"),
    "format": (old_checkpoint(format="x"), "damaged checkpoint"),
    "model": (old_checkpoint(model=[1]), "damaged checkpoint"),
    "no ema": (old_checkpoint(ema=5), "damaged checkpoint"),
    "classes": (old_checkpoint(classes=7), "damaged checkpoint"),
    "preprocessing": (old_checkpoint(preprocessing={"size": []}), "damaged checkpoint"),
    "NaN in a checkpoint": (
        old_checkpoint(ema={f"backbone.{k}": v * float("nan") for k, v in STATE.items()}), "NaN"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_FILES)
def test_a_file_of_no_use_is_refused_in_one_line(name, tmp_path, capsys):
    content, message = NOT_FILES[name]
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        ResNetCIFAR(depth=8, base_channels=2, weights=str(path))
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text and len(text) < 500 + len(str(path))
    assert "weights_only" not in text and "trust" not in text  # torch's own advice
    assert "has run" not in capsys.readouterr().out


GOOD = {
    "half": {k: v.half() if v.is_floating_point() else v for k, v in STATE.items()},
    "bfloat16": {k: v.bfloat16() if v.is_floating_point() else v for k, v in STATE.items()},
    "double": {k: v.double() if v.is_floating_point() else v for k, v in STATE.items()},
    "parameters": {k: nn.Parameter(v, v.is_floating_point() and False) for k, v in STATE.items()},
    "net": {"net": {f"module.{k}": v for k, v in STATE.items()}, "acc": 91.2, "epoch": 3},
    "an unknown key": {"weights_of_mine": STATE, "epoch": 3, "optimizer": {"state": {0: {}}}},
    "deeper": {"payload": {"state_dict": STATE, "step": torch.tensor(3)}},
    "beside numbers": {"state_dict": STATE, "step": torch.tensor(3), "meta": {"lr": 0.1}},
    "a scalar left over": STATE | {"logit_scale": torch.tensor(4.6)},
    "a head of NaN": STATE | {"fc.weight": torch.full((3, 8), float("nan"))},
}


@pytest.mark.parametrize("name", GOOD)
def test_weights_of_other_forms_are_read(name, tmp_path):
    torch.save(GOOD[name], tmp_path / "w.pth")
    made = ResNetCIFAR(depth=8, base_channels=2, weights=str(tmp_path / "w.pth"))
    for key, value in made.state_dict().items():
        torch.testing.assert_close(value, STATE[key], rtol=0.01, atol=0.01)
    assert made.pretrained.preprocessing.size == made.pretrained.preprocessing.resize == 32


def test_an_archive_that_another_program_compressed_is_read(tmp_path):
    (tmp_path / "w.pth").write_bytes(packed(WHOLE))
    made = ResNetCIFAR(depth=8, base_channels=2, weights=str(tmp_path / "w.pth"))
    assert torch.equal(made.state_dict()[KEY], STATE[KEY])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("{}", "a folder; expected a file"),
        ("{}/none.pth", "no such file"),
        ("~nobody/none.pth", "no such file"),
        ("x" * 5000, "no such file"),
        ("a\0b", "no such file"),
        ("", "no such file"),
    ],
)
def test_paths_that_are_no_files(weights, message, tmp_path):
    with pytest.raises(UserError, match=message):
        ResNetCIFAR(depth=8, weights=weights.format(tmp_path))


def loaded(**tensors):
    return Pretrained(Preprocessing(), tensors, None, [], "w.pth")


def test_a_head_of_nan_is_refused():
    head = Linear(channels=[4], num_classes=3, activation="softmax")
    weight, bias = torch.full((3, 4), float("nan")), torch.zeros(3)
    with pytest.raises(UserError, match="w.pth: fc.weight holds NaN|w.pth: linear.weight holds"):
        fill(head, {"fc.weight": weight, "fc.bias": bias}, "w.pth")


def test_to_predict_every_tensor_must_be_there():
    head = Linear(channels=[4], num_classes=3, activation="softmax")
    fitting = {"fc.3.weight": torch.zeros(3, 4), "fc.3.bias": torch.zeros(3)}
    require_complete(head, loaded(**fitting))
    require_complete(head, loaded(**{"aux.fc.weight": torch.zeros(9, 9)}, **fitting))
    between = {"fc.0.weight": torch.zeros(4, 4), "fc.0.bias": torch.zeros(4)}
    with pytest.raises(UserError, match="do not fit Linear"):  # a layer would be passed over
        require_complete(head, loaded(**between, **fitting))
    with pytest.raises(UserError, match="do not fit Linear"):
        require_complete(head, loaded(**{"fc.3.weight": torch.zeros(3, 4)}))
    with pytest.raises(UserError, match="conv1.weight: not in this file, so random"):
        require_complete(head, loaded(**fitting)._replace(missing=["conv1.weight"]))


def test_a_head_with_a_layer_of_its_own_trains_on_but_does_not_predict(tmp_path):
    torch.save(STATE | {"fc.weight": torch.zeros(5, 8), "fc.bias": torch.zeros(5)},
               tmp_path / "w.pth")  # fmt: skip
    head = nn.Sequential(nn.Linear(8, 5), nn.Linear(5, 3))
    unused = ResNetCIFAR(depth=8, base_channels=2, weights=str(tmp_path / "w.pth")).pretrained
    assert fill(head, unused.unused_tensors)
    with pytest.raises(UserError, match="do not fit Sequential"):
        require_complete(head, unused)
