import inspect
import os
import pickle

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from engine.config import renamed
from engine.errors import UserError
from engine.weights import checkpoint
from engine.weights.migrate import NO_TRACKER

CPU = torch.device("cpu")


def state(**more):
    model = torch.nn.Linear(2, 1).state_dict()
    return {"config": {"a": [1, "x", None]}, "classes": ["cat"], "model": model, "epoch": 3, **more}


def refusal(path):
    with pytest.raises(UserError) as caught:
        checkpoint.load(str(path), CPU)
    message = str(caught.value)
    assert message.startswith(f"checkpoint {path}: ") and "\n" not in message
    return message.removeprefix(f"checkpoint {path}: ")


def test_what_is_saved_comes_back(tmp_path):
    saved = state(best=float("-inf"), random={"python": [3, [1, 2], None]})
    checkpoint.save(tmp_path / "a.pt", saved)
    back = checkpoint.load(str(tmp_path / "a.pt"), CPU)
    for key, value in saved["model"].items():
        assert torch.equal(back["model"].pop(key), value)
    assert back == {"format": 7, **saved, "model": {}}
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("fails", ["save", "fsync"])
def test_an_interrupted_save_leaves_the_old_file_whole(tmp_path, monkeypatch, fails):
    path = tmp_path / "last.pt"
    checkpoint.save(path, state(epoch=1))
    old = path.read_bytes()

    def half(_, file):
        file.write(b"half of it")
        raise KeyboardInterrupt

    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(*((torch, "save", half) if fails == "save" else (os, "fsync", full)))
    with pytest.raises((KeyboardInterrupt, OSError)):
        checkpoint.save(path, state(epoch=2))
    assert path.read_bytes() == old
    monkeypatch.undo()
    checkpoint.save(path, state(epoch=3))  # what the failed one left is no obstacle
    assert checkpoint.load(str(path), CPU)["epoch"] == 3


def whole(path):
    checkpoint.save(path, state())
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (lambda whole: b"", "empty"),
        (lambda whole: b"some text\n", "text"),
        (lambda whole: b"\xff\xd8\xff\xe0" + bytes(1000), "no file of torch's"),  # a JPEG
        (lambda whole: b"<!DOCTYPE html>", "a web page, not the file"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (lambda whole: whole[: len(whole) // 2], "cut short"),
        (lambda whole: whole[:-1], "cut short"),
        (lambda whole: whole[:100], "cut short"),
    ],
    ids=["empty", "text", "jpeg", "web page", "LFS", "half", "one byte less", "head only"],
)
def test_a_broken_file_is_named(tmp_path, content, kind):
    path = tmp_path / "a.pt"
    path.write_bytes(content(whole(path)))
    message = refusal(path)
    assert message.startswith(f"it is {kind}") and "expected a file that train.py wrote" in message


def test_no_file_and_a_folder(tmp_path):
    assert refusal(tmp_path / "none.pt").startswith("no such file; runs keep theirs in")
    assert refusal(tmp_path).startswith("a folder; runs keep theirs in RUN/checkpoints/last.pt")


@pytest.mark.parametrize(
    ("foreign", "message"),
    [
        ({"state_dict": {}, "lr": 1}, "not written by train.py (it holds ['lr', 'state_dict'])"),
        ([1, 2], "not written by train.py (it holds list)"),
        (torch.zeros(2), "not written by train.py (it holds Tensor)"),
    ],
)
def test_a_file_of_another_program(tmp_path, foreign, message):
    torch.save(foreign, tmp_path / "a.pt")
    assert refusal(tmp_path / "a.pt").startswith(message)


def test_a_newer_format(tmp_path):
    torch.save({**state(), "format": 8}, tmp_path / "a.pt")
    assert refusal(tmp_path / "a.pt") == "format 8, this version reads 7: update it"


def test_a_file_of_the_first_format_is_read(tmp_path):
    names = ("mean", "backbone.stem.0.weight", "backbone.stem.1.bias", "backbone.stages.3.0.x")
    past = {
        "head": {"_target_": "classify.heads.Linear", "dropout": 0.5},
        "metric": {"_target_": "classify.metrics.TopK"},
    }
    said = {"size": [64, 64], "mean": [51.0, 102.0, 0.0], "std": [255.0, 255.0, 127.5]}
    model = {name: torch.ones(1) for name in names}
    saved = state(config=past, model=model, ema=None, preprocessing=said)
    torch.save({**saved, "format": 1}, tmp_path / "a.pt")
    got = checkpoint.load(str(tmp_path / "a.pt"), CPU)
    assert list(got["model"]) == [
        "mean", "backbone.conv1.weight", "backbone.bn1.bias", "backbone.layer4.0.x",
    ]  # fmt: skip
    assert got["config"]["head"] == {"_target_": "classify.heads.linear.Linear", "dropout": 0.5}
    assert got["config"]["metric"]["_target_"] == "classify.metrics.top_k.TopK"
    assert got["config"]["finetune"] == {"_target_": "engine.training.finetune.Finetune"}
    assert got["preprocessing"]["mean"] == [0.2, 0.4, 0.0]  # of 255 then, of 1 since
    assert (got["ema"], got["format"]) == (None, 7)


def test_a_file_of_the_second_format_is_read(tmp_path):
    head = {"_target_": "detect.heads.ssd.SSD", "levels": 5, "variances": [0.2, 0.3]}
    saved = state(config={"head": head, "metric": {"_target_": "m"}}, ema=None)
    torch.save({**saved, "format": 2}, tmp_path / "a.pt")
    got = checkpoint.load(str(tmp_path / "a.pt"), CPU)
    coder = {"_target_": "detect.coder.CentreSize", "variances": [0.2, 0.3]}
    assert got["config"]["head"] == {"_target_": head["_target_"], "levels": 5, "coder": coder}
    assert got["config"]["metric"] == {"_target_": "m"} and got["format"] == 7
    del head["variances"]  # of another head nothing changes
    torch.save({**saved, "format": 2}, tmp_path / "a.pt")
    assert checkpoint.load(str(tmp_path / "a.pt"), CPU)["config"]["head"] == head


def test_a_file_of_the_third_format_stood_between_two_epochs(tmp_path):
    config = {"head": {"_target_": "h", "variances": [1, 1]}}  # of a head that may say so again
    torch.save({**state(config=config), "format": 3}, tmp_path / "a.pt")
    got = checkpoint.load(str(tmp_path / "a.pt"), CPU)
    assert (got["progress"], got["guard"], got["stale"]) == ({}, {"row": 0}, 0)
    assert got["config"] == config | NO_TRACKER and got["format"] == 7


class Evil:
    """Unpickling it would write a file."""

    def __init__(self, canary):
        self.command = f"touch {canary}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("save", ["torch", "plain pickle"])
def test_code_in_a_file_is_refused_by_name_and_does_not_run(tmp_path, save):
    path, canary = tmp_path / "a.pt", tmp_path / "canary"
    content = {**state(), "format": 1, "config": Evil(canary)}
    if save == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(Evil(canary), protocol=2))
    message = refusal(path)
    assert not canary.exists()
    assert f"{os.system.__module__}.system" in message
    os.system(Evil(canary).command)
    assert canary.exists()  # had it run, it would show


def test_a_pickled_configuration_is_refused_by_name(tmp_path):
    torch.save(state(config=OmegaConf.create({"a": 1}), format=1), tmp_path / "a.pt")
    message = refusal(tmp_path / "a.pt")
    assert message.startswith("it is a pickle of objects (omegaconf.dictconfig.DictConfig)")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (torch.nn.Linear(3, 1), "weight: [1, 2] in the file, [1, 3] here"),
        (torch.nn.Linear(2, 1, bias=False), "bias: this network has none"),
        (torch.nn.PReLU(), "weight: [1, 2] in the file, [1] here"),
    ],
)
def test_weights_of_another_network(other, said):
    with pytest.raises(UserError) as caught:
        checkpoint.load_weights(other, torch.nn.Linear(2, 1).state_dict(), "a.pt")
    message = str(caught.value)
    assert message.startswith("checkpoint a.pt: its weights are of another network: ")
    assert message.endswith(said)


def test_weights_of_this_network():
    source, target = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    checkpoint.load_weights(target, source.state_dict(), "a.pt")
    assert torch.equal(source.weight, target.weight) and torch.equal(source.bias, target.bias)


def test_every_renamed_name_has_one_of_today():
    table = renamed.table()
    for prefix, now in table["targets"].items():
        assert not now.startswith(prefix)  # or a name of today would be renamed again
        if not now.endswith("."):
            assert get_class(now)
    for target, keys in table["keys"].items():
        arguments = inspect.signature(get_class(target)).parameters
        assert set(keys.values()) <= arguments.keys() and not keys.keys() & arguments.keys()


def test_a_configuration_of_format_4_has_the_names_of_today(tmp_path):
    post = {"_target_": "detect.postprocess.Postprocess", "candidates": 7, "keep": 3}
    head = {"_target_": "detect.heads.yolo_v3.YOLOv3", "anchors": [[[1, 2]], [[3, 4]], [[5, 6]]],
            "postprocess": post}  # fmt: skip
    config = {"head": head, "schedule": {"_target_": "engine.schedule.Cosine", "warmup": 0.1}}
    torch.save({**state(config=config), "format": 4}, tmp_path / "a.pt")
    got = checkpoint.load(str(tmp_path / "a.pt"), CPU)["config"]
    assert got["schedule"] == {"_target_": "engine.training.schedule.Cosine", "warmup": 0.1}
    assert got["head"]["anchors"] == [[1, 2], [3, 4], [5, 6]]
    now = {"_target_": "detect.postprocess.Postprocess", "pre_nms": 7, "max_detections": 3}
    assert got["head"]["postprocess"] == now


def test_a_file_of_the_fifth_format_does_not_know_the_ids_of_its_categories(tmp_path):
    torch.save({**state(), "format": 5}, tmp_path / "a.pt")
    assert checkpoint.load(str(tmp_path / "a.pt"), CPU)["categories"] is None
    two = {"classes": ["cat", "dog"], "categories": [5, 90]}
    torch.save({**state(), "format": 6, **two}, tmp_path / "a.pt")
    assert checkpoint.load(str(tmp_path / "a.pt"), CPU)["categories"] == [5, 90]


@pytest.mark.parametrize(
    ("number", "given", "now"),
    [(5, {}, "projection"), (6, {}, None), (5, {"shortcut": "zeros"}, "zeros")],
)
def test_a_cifar_network_of_an_older_format_has_projections(tmp_path, number, given, now):
    node = {"_target_": "classify.backbones.resnet_cifar.ResNetCIFAR", "depth": 8, **given}
    torch.save({**state(), "format": number, "config": {"backbone": node}}, tmp_path / "a.pt")
    got = checkpoint.load(str(tmp_path / "a.pt"), CPU)["config"]["backbone"]
    assert got.get("shortcut") == now and got["depth"] == 8


def test_a_file_of_the_sixth_format_has_no_tracker(tmp_path):
    torch.save({**state(), "format": 6, "choices": {"head": "ssd"}}, tmp_path / "a.pt")
    got = checkpoint.load(str(tmp_path / "a.pt"), CPU)
    assert got["config"]["tracker"] == {"_target_": "engine.output.trackers.NoTracker"}
    assert got["choices"] == {"head": "ssd", "tracker": "none"}  # of a command line that says so
    torch.save({**state(), "format": 6}, tmp_path / "a.pt")
    assert "choices" not in checkpoint.load(str(tmp_path / "a.pt"), CPU)
