import struct

import numpy as np
import pytest

from classify.datasets.torchvision import SETS, Torchvision
from engine.errors import UserError


@pytest.fixture
def mnist(tmp_path):
    """MNIST's own files (yann.lecun.com/exdb/mnist): 20 images of train, 5 of test."""
    folder = tmp_path / "MNIST/raw"
    folder.mkdir(parents=True)
    for name, count in (("train", 20), ("t10k", 5)):
        pixels = np.arange(count, dtype=np.uint8).repeat(28 * 28)
        top = struct.pack(">4i", 2051, count, 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(top + pixels.tobytes())
        labels = np.arange(count, dtype=np.uint8) % 2
        top = struct.pack(">2i", 2049, count)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(top + labels.tobytes())
    return {"name": "MNIST", "root": str(tmp_path)}


def test_images_and_labels(mnist):
    data = Torchvision(**mnist, split="test")
    assert len(data) == 5 and data.classes[:2] == ["0 - zero", "1 - one"]
    assert [data.record(i).labels.tolist() for i in range(5)] == [[0], [1], [0], [1], [0]]
    assert data.record(3).id == 3 and data.record(3).boxes is None
    assert data.image(3).shape == (28, 28, 3) and data.image(3)[9, 9].tolist() == [3, 3, 3]


def test_a_share_of_each_class_is_held_out(mnist):
    train, val = (Torchvision(**mnist, split=s) for s in ("train", "val"))
    assert (len(train), len(val)) == (18, 2)
    assert sorted(val.record(i).labels[0] for i in range(2)) == [0, 1]
    for data in (train, val):  # the pixels of MNIST's image i are i, its label i % 2
        for i in range(len(data)):
            assert data.image(i)[0, 0, 0] == data.record(i).id
            assert data.image(i)[0, 0, 0] % 2 == data.record(i).labels[0]


@pytest.mark.parametrize("name", SETS)
def test_what_is_not_there_is_said_and_not_fetched(tmp_path, name, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    with pytest.raises(UserError, match=rf"{name} is not there whole .*download=true fetches it"):
        Torchvision(name=name, root=str(tmp_path), split="train")


def test_names(tmp_path):
    with pytest.raises(UserError, match=r"name is 'CIFAR1', expected one of .*mean 'CIFAR10'\?"):
        Torchvision(name="CIFAR1", root=str(tmp_path), split="train")
    with pytest.raises(UserError, match=r"no split 'extra' in CIFAR10; there are test, train"):
        Torchvision(name="CIFAR10", root=str(tmp_path), split="extra")
