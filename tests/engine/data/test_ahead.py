import threading

import cv2
import numpy as np
import pytest
import torch

from engine.data.ahead import Kept, Threads
from engine.data.augment import Augment
from engine.data.files import Files
from engine.data.loader import Loader
from engine.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Ten images of several sizes: some are decoded smaller for an input of 32 pixels."""
    rng = np.random.default_rng(0)
    for i in range(10):
        small = rng.integers(0, 255, (4 + i, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), cv2.resize(small, (40 + 20 * i, 40 + 8 * i)))
    return tmp_path


def loader(folder, **options):
    return Loader(dataset=Files(source=str(folder), on_error="skip"), augment=Augment(),
                  size=(32, 32), batch_size=4, **options)  # fmt: skip


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_of_threads_are_those_of_processes_to_the_bit(folder, workers):
    (folder / "4.jpg").write_bytes((folder / "4.jpg").read_bytes()[:200])
    kept = Kept()
    made, others = loader(folder, workers=workers, kept=kept), loader(folder)
    for batch, other in zip(made, others, strict=True):
        assert torch.equal(batch.images, other.images)
        assert [meta.path for meta in batch.meta] == [meta.path for meta in other.meta]
        for meta in batch.meta:
            image = kept.take(meta.index)
            small = min(meta.size) >= 48  # 48 / 32 * 4 / 3 = 2: decoded at half the size
            assert (image is None) == small
            assert small or np.array_equal(image, made.dataset.image(meta.index))
    assert kept.used == 0 and made.dataset.report == others.dataset.report


def test_an_unreadable_image_is_an_error_of_the_iteration(folder):
    (folder / "9.jpg").write_bytes(b"no image")
    data = Files(source=str(folder))
    batches = iter(Loader(dataset=data, augment=Augment(), size=(32, 32), batch_size=4, workers=2,
                          kept=Kept()))  # fmt: skip
    next(batches)
    with pytest.raises(UserError, match=r"9\.jpg.*on_error=skip"):
        list(batches)


def test_kept_images_have_a_limit():
    image, kept = np.zeros((10, 10, 3), np.uint8), Kept(most=700)
    for index in range(3):
        kept.put(index, 1, image)
    kept.put(3, 2, image)
    assert [kept.take(index) is None for index in range(4)] == [False, False, True, True]
    assert kept.used == 0 and kept.take(0) is None


def test_threads_are_few_and_few_steps_ahead():
    made, gate = [], threading.Event()

    def make(key):
        made.append(key)
        gate.wait(5)
        return key

    numbers = iter(range(1000))
    threads = iter(Threads(make, numbers, workers=2, prefetch=3))
    gate.set()
    assert [next(threads) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert next(numbers) <= 5 + 2 * 3
    threads.close()
    assert len(made) <= 5 + 2 * 3
