"""Weights from elsewhere at the command line: torchvision's by name, and transfer."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
import torchvision
from command_line import TINY, metrics, run, start
from omegaconf import OmegaConf
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from classify.backbones.resnet_cifar import ResNetCIFAR

NAME, FILE = "mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth"
ARGUMENTS = [f"model={NAME}", "backbone.weights=DEFAULT", "device=cpu", "loader.workers=0",
             "trainer.precision=fp32"]  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torch hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    folder = tmp_path / "hub/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


def published(hub):
    """A network of torchvision's whose weights lie in the cache as if fetched."""
    torch.manual_seed(0)
    net = torchvision.models.get_model(NAME, weights=None)
    for parameter in net.parameters():
        if parameter.ndim > 1:  # torchvision's own start says the same of every image
            torch.nn.init.kaiming_normal_(parameter)
    torch.nn.init.normal_(net.classifier[-1].weight, std=1.0)
    torch.save(net.state_dict(), hub / FILE)
    return net


def images(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, size in enumerate([(300, 400, 3), (260, 180, 3), (40, 50, 3)]):
        cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 256, size, np.uint8))
    return folder


def test_torchvisions_weights_predict_as_torchvision_does(hub, tmp_path):
    net = published(hub)
    folder = images(tmp_path / "in")
    out = run("predict.py", *ARGUMENTS, f"source={folder}", f"hydra.run.dir={tmp_path}/out",
              cwd=tmp_path)  # fmt: skip
    rows = json.loads((tmp_path / "out/predictions.json").read_text())
    weights = torchvision.models.get_model_weights(NAME).DEFAULT
    for i in range(3):
        image = pil_to_tensor(Image.open(folder / f"{i}.png"))
        with torch.no_grad():
            expected = net.eval()(weights.transforms()(image)[None])[0].softmax(0)
        mine = {r["category_id"] - 1: r["score"] for r in rows if r["image_id"] == str(i)}
        best = expected.topk(5)
        assert best.values[0] > 1.02 * best.values[1]
        for score, label in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            assert mine[label] == pytest.approx(score, rel=1e-3)
        line = next(line for line in out.splitlines() if f"/{i}.png: " in line)
        said = re.findall(r"([^:,]+): ([0-9.]+)%", line.split(".png: ")[1])
        assert len(said) == 5
        name = weights.meta["categories"][best.indices[0]]
        assert line.split(".png: ")[1].startswith(f"{name}: {100 * best.values[0]:.1f}%")


def test_the_size_that_is_asked_for_is_the_size_that_the_network_sees(hub, tmp_path):
    net = published(hub)
    folder = images(tmp_path / "in")
    out = run("predict.py", *ARGUMENTS, f"source={folder}/0.png", "image_size=64",
              f"hydra.run.dir={tmp_path}/out", cwd=tmp_path)  # fmt: skip
    assert "weights were trained at 224 px, image_size is 64" in out
    # The short side of the weights' recipe, 256 for 224, in the same proportion: 64 * 256 / 224
    recipe = torchvision.models.get_model_weights(NAME).DEFAULT.transforms
    image = recipe(crop_size=64, resize_size=73)(pil_to_tensor(Image.open(folder / "0.png")))
    with torch.no_grad():
        expected = net.eval()(image[None])[0].softmax(0)
    rows = json.loads((tmp_path / "out/predictions.json").read_text())
    mine = {r["category_id"] - 1: r["score"] for r in rows}
    best = expected.topk(3)
    for score, label in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        assert mine[label] == pytest.approx(score, rel=1e-2)


def cifar(tmp_path, *options, **tensors):
    """The words of a refused prediction by a CIFAR ResNet with a file of option A."""
    state = ResNetCIFAR(depth=14).state_dict()
    head = {"linear.weight": torch.randn(10, 64), "linear.bias": torch.zeros(10)}
    state = {f"module.{k}": v for k, v in {**state, **head, **tensors}.items()}
    torch.save({"state_dict": state, "best_prec1": 90.0}, tmp_path / "w.th")
    cv2.imwrite(str(tmp_path / "a.png"), np.full((32, 32, 3), 90, np.uint8))
    process = start("predict.py", "model=resnet_cifar", "backbone.depth=14", *options,
                    "backbone.weights=w.th", "source=a.png", "device=cpu", "loader.workers=0",
                    "hydra.run.dir=out", cwd=tmp_path)  # fmt: skip
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


def test_weights_of_a_cifar_network_are_used_whole_or_not_at_all(tmp_path):
    code, text = cifar(tmp_path)
    assert code == 0 and "65 of the backbone's 65 tensors matched" in text
    saved = OmegaConf.load(tmp_path / "out/.hydra/config.yaml")
    assert saved.backbone.shortcut == "zeros"
    nan = {"linear.bias": torch.full((10,), float("nan"))}
    for options, tensors, message in (
        (["backbone.depth=8"], {}, "weights of another network"),  # blocks left over
        (["backbone.depth=20"], {}, "weights of another network"),  # blocks missing
        (["backbone.shortcut=projection"], {}, "layer2.0.downsample.0.weight"),  # would be random
        (["augment.flip=1"], {}, "augment.flip: predict.py prepares images as the weights"),
        (["head=mlp"], {}, "do not fit MLP"),
        ([], nan, "linear.bias holds NaN"),
    ):
        code, text = cifar(tmp_path, *options, **tensors)
        last = text.strip().splitlines()[-1]
        assert (code, last[:7], message in last) == (2, "error: ", True), text


def test_without_the_file_and_a_network_one_line_says_what_to_do(hub, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    folder = images(tmp_path / "in")
    process = start("predict.py", *ARGUMENTS, f"source={folder}", cwd=tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.startswith("error: ") and err.count("\n") == 1
    assert FILE in err and str(hub) in err
    assert not list(hub.iterdir())


@pytest.mark.parametrize("finetune", [pytest.param("head", marks=pytest.mark.slow), "extra_head"])
def test_transfer_from_a_file(shared_data, tmp_path, finetune):
    for split in ("train", "val"):
        for name in ("ants", "bees"):
            source = shared_data / "hymenoptera256" / split / name
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for path in sorted(source.iterdir())[:6]:
                shutil.copy(path, tmp_path / "data" / split / name)
    weights = shared_data / "weights/mobilenetV1X0.25_pretrain.tar"
    tiny = [a for a in TINY if not a.startswith(("backbone", "image_size"))]
    out = run("train.py", "experiment=transfer", f"backbone.weights={weights}", *tiny,
              f"finetune={finetune}", f"dataset.root={tmp_path}/data",
              f"hydra.run.dir={tmp_path}/out", cwd=tmp_path)  # fmt: skip
    assert "135 of the backbone's 135 tensors matched" in out
    # 256 features; the extra layer reads the 1000 outputs of the pretrained head
    count = {"head": 256 * 2 + 2, "extra_head": 1000 * 2 + 2}[finetune]
    assert f"{count:,} of" in out
    assert 0 <= metrics(tmp_path / "out")["metrics"]["top1"] <= 1
    saved = torch.load(tmp_path / "out/checkpoints/best.pt", weights_only=True)
    assert saved["preprocessing"]["size"] == [224, 224]
