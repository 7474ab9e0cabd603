"""Damaged checkpoints at the three commands that read one: exit code 2 and one line, always.

What may be wrong inside one is in tests/engine/training/test_damaged.py, what else a file may be in
tests/engine/weights/test_malformed.py.
"""

import io
import math
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import TINY, ended, run

COMMANDS = {
    "resume": ["train.py", "trainer.epochs=2", "resume=damaged.pt"],
    "evaluate": ["eval.py", "checkpoint=damaged.pt"],
    "predict": ["predict.py", "source=.", "checkpoint=damaged.pt"],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of the checkpoint of a classifier that Adam trained for an epoch."""
    folder = tmp_path_factory.mktemp("whole")
    run("train.py", *TINY, "model=resnet_cifar", "backbone=resnet_cifar", "backbone.depth=8",
        "image_size=32", "dataset=shapes", "dataset.view=largest", "dataset.size=32",
        "dataset.train=8", "dataset.val=4", "optimizer=adam", "hydra.run.dir=run",
        cwd=folder)  # fmt: skip
    return (folder / "run/checkpoints/last.pt").read_bytes()


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def without(data, key):
    state = torch.load(io.BytesIO(data), weights_only=True)
    del state[key]
    return saved(state)


def with_(data, *keys, value):
    """The checkpoint with another value at the keys."""
    state = node = torch.load(io.BytesIO(data), weights_only=True)
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    return saved(state)


def other_byte(data):
    """The checkpoint with one byte in the middle of its largest tensor changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        content = archive.read(largest)
    place = data.index(content) + len(content) // 2
    return data[:place] + bytes([data[place] ^ 64]) + data[place + 1 :]


def zip_of_text(_):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "see the releases page")
    return file.getvalue()


PICKLE_2 = b"(dp0\nS'model'\np1\n(dp2\nsS'epoch'\np3\nI1\ns."  # as Python 2 wrote a dict
ANY = {
    "one byte changed": (other_byte, "archive/data/.* is not as it was written"),
    "no categories": (lambda data: without(data, "categories"), "lacks categories"),
    "no classes": (lambda data: without(data, "classes"), "lacks classes"),
    "classes a tensor": (lambda data: with_(data, "classes", value=torch.zeros(5)), "classes is"),
    "epoch -1": (lambda data: with_(data, "epoch", value=-1), "epoch is int -1"),
    "NumPy's number": (lambda data: with_(data, "best", value=np.float64(0)), "pickle of objects"),
    "cut": (lambda data: data[: len(data) // 2], "cut short"),
    "empty": (lambda _: b"", "it is empty"),
    "text": (lambda _: b"see the releases page", "it is text"),
    "web page": (lambda _: b"<!DOCTYPE html><html>404</html>", "a web page"),
    "LFS": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
    "zip of text": (zip_of_text, "no data.pkl"),
    "pickle": (lambda _: pickle.dumps({"model": np.zeros(2)}), "a pickle"),
    "Python 2": (lambda _: PICKLE_2, "expected a file that train.py wrote"),
    "folder": (None, "a folder"),
}
RESUMED = {
    "moments of another shape": (
        lambda data: with_(data, "optimizer", "state", 0, "exp_avg", value=torch.zeros(7)),
        "exp_avg of parameter 0",
    ),
    "no optimizer": (lambda data: without(data, "optimizer"), "lacks optimizer"),
    "infinite rate": (
        lambda data: with_(data, "optimizer", "param_groups", 0, "lr", value=math.inf),
        "optimizer.lr is",
    ),
}  # fmt: skip
EVERYWHERE = ("one byte changed", "no categories", "cut", "folder")
TABLE = [
    *(("predict", name) for name in ANY),
    *((command, name) for command in ("resume", "evaluate") for name in EVERYWHERE),
    *(("resume", name) for name in RESUMED),
]


@pytest.mark.parametrize(("command", "name"), TABLE)
def test_a_damaged_checkpoint_is_one_line(command, name, whole, tmp_path):
    damage, message = (ANY | RESUMED)[name]
    path: Path = tmp_path / "damaged.pt"
    path.write_bytes(damage(whole)) if damage else path.mkdir()
    done = ended(*COMMANDS[command], "hydra.run.dir=out", cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 1, done.stderr + done.stdout
    assert lines[0].startswith("error: checkpoint damaged.pt: ") and re.search(message, lines[0])
