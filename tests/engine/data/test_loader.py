import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from detect.datasets.voc import VOC
from engine.builders.instantiate import part
from engine.config.schema import CONFIGS
from engine.data.augment import Augment
from engine.data.cache import Cache
from engine.data.image import read_rgb
from engine.data.loader import Loader
from engine.data.sampler import Batches
from engine.errors import UserError
from engine.record import Record

# Four workers are asked for on machines of any size.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

ROOT = Path(__file__).resolve().parents[3]


class Tiny:
    """Random images of several sizes, each with one object; the image `bad` cannot be read."""

    classes, notes = ["a", "b"], []

    def __init__(self, length=10, bad=None, on_error="fail"):
        self.length, self.bad, self.on_error, self.report = length, bad, on_error, []

    def __len__(self):
        return self.length

    def record(self, index):
        box = np.array([[2, 3, 12, 13]], np.float32)
        return Record(f"id{index}", f"{index}.png", np.array([index % 2]), box)

    def image(self, index):
        if index == self.bad:
            raise UserError(f"cannot read the image {index}.png: it is broken")
        rng = np.random.default_rng(index)
        return rng.integers(0, 256, (20 + index, 30, 3), np.uint8)


def loader(
    data, workers=0, train=True, batch_size=4, seed=0, fit="squeeze", settings=(), **options
):
    plain = {"flip": 0.5, "scale": (0.7, 1.2), "aspect": 1.2, "rotate": 9}
    augment = Augment(fit=fit, brightness=0.2, hue=9, **(plain | dict(settings)))
    return Loader(
        dataset=data, augment=augment, size=(32, 40), batch_size=batch_size, workers=workers,
        seed=seed, train=train, **options,
    )  # fmt: skip


def ids(batches):
    return [[m.id for m in batch.meta] for batch in batches]


def content(batch):
    fields = [getattr(batch.objects, f).numpy().tobytes() for f in vars(batch.objects)]
    places = [(m.index, m.id, m.size, m.matrix.tobytes()) for m in batch.meta]
    return batch.images.numpy().tobytes(), fields, places


def order(epoch=0, seed=0, length=50):
    sampler = Batches(length=length, batch_size=5, seed=seed, train=True)
    sampler.epoch = epoch
    return [index for batch in sampler for _, index in batch]


def test_the_order_is_a_function_of_seed_and_epoch():
    assert order() == order() and sorted(order()) == list(range(50)) != order()
    assert len({tuple(order(epoch, seed)) for epoch in range(3) for seed in range(3)}) == 9


def test_a_batch_carries_its_epoch():
    sampler = Batches(length=4, batch_size=2, seed=0, train=True)
    sampler.epoch = 7
    assert {epoch for batch in sampler for epoch, _ in batch} == {7}


@pytest.mark.parametrize(
    ("length", "batch_size", "train", "sizes"),
    [
        (10, 4, True, [4, 4]),  # the last two are left out
        (8, 4, True, [4, 4]),
        (3, 4, True, [3]),  # a set smaller than a batch is one
        (10, 4, False, [4, 4, 2]),
        (8, 4, False, [4, 4]),
        (3, 4, False, [3]),
    ],
)
def test_batch_sizes(length, batch_size, train, sizes):
    sampler = Batches(length=length, batch_size=batch_size, seed=0, train=train)
    assert [len(batch) for batch in sampler] == sizes and len(sampler) == len(sizes)


def test_evaluation_takes_every_image_once_in_order():
    found = ids(loader(Tiny(), train=False))
    assert sum(found, []) == [f"id{i}" for i in range(10)] and len(found) == 3


def test_another_epoch_gives_other_images():
    made = loader(Tiny(4))
    first = content(next(iter(made)))
    made.sampler.epoch = 1
    assert content(next(iter(made)))[0] != first[0]
    made.sampler.epoch = 0
    assert content(next(iter(made))) == first


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_same_seed_and_epoch_give_the_same_bytes_with_any_workers(epoch):
    found = []
    for workers in (0, 1, 2, 4):
        made = loader(Tiny(), workers)
        made.sampler.epoch = epoch
        found.append([content(batch) for batch in made])
    assert len(found[0]) == 2 and all(some == found[0] for some in found)


@pytest.mark.parametrize("workers", [0, 2])
def test_from_the_middle_of_an_epoch_the_batches_are_the_same_bytes(workers):
    made = loader(Tiny(30), workers, sizes=[64, 96], sizes_every=2)
    made.sampler.seek(3)
    whole = [content(batch) for batch in made]
    for start in (0, 1, 4, 6, 7):
        made.sampler.seek(3, start)
        assert [content(batch) for batch in made] == whole[start:]
    made.sampler.seek(4)
    assert len(list(made)) == len(made) == 7


class Stored(Tiny):
    """The same images, larger and in files."""

    stored = True

    def __init__(self, folder, length=12):
        super().__init__(length)
        self.folder = folder
        for index in range(length):
            rng = np.random.default_rng(index)
            small = rng.integers(0, 256, (9, 12, 3), np.uint8)
            suffix = "png" if index % 4 == 3 else "jpg"
            cv2.imwrite(f"{folder}/{index}.{suffix}", cv2.resize(small, (201 + 9 * index, 150)))

    def record(self, index):
        suffix = "png" if index % 4 == 3 else "jpg"
        box = np.array([[20, 30, 120, 130]], np.float32)
        return Record(index, f"{self.folder}/{index}.{suffix}", np.array([index % 2]), box)

    def image(self, index):
        raise AssertionError("the loader reads files itself")


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_the_cache_changes_no_byte(tmp_path, workers):
    data, settings = Stored(tmp_path), {"mosaic": 0.5, "zoom_out": 0.5, "mixup": 0.2}
    plain = loader(data, settings=settings)
    cached = loader(data, workers, settings=settings, cache_mb=1)
    for epoch in range(3):
        plain.sampler.seek(epoch)
        cached.sampler.seek(epoch)
        assert list(map(content, cached)) == list(map(content, plain))
    assert int(cached.loader.dataset.cache.used) > 0


def test_the_cache_keeps_to_its_budget():
    cache = Cache(megabytes=1, length=4)
    large, small = np.full((300, 500, 3), 7, np.uint8), np.arange(30, dtype=np.uint8)
    for index in range(3):  # 450,000 bytes each: the third one has no room
        cache.put(index, 1, large + index)
    cache.put(3, 4, small.reshape(2, 5, 3))
    assert [cache.get(i, 1) is None for i in range(4)] == [False, False, True, True]
    np.testing.assert_array_equal(cache.get(1, 1), large + 1)
    assert cache.get(3, 4).tolist() == small.reshape(2, 5, 3).tolist() and cache.get(3, 2) is None


def test_a_kept_image_is_not_read_again(tmp_path):
    data = Stored(tmp_path, length=4)
    made = loader(data, train=False, cache_mb=4)
    first = list(map(content, made))
    for path in tmp_path.iterdir():
        head = path.read_bytes()[:700]  # the header stays, the pixels are gone
        path.write_bytes(head)
    assert list(map(content, made)) == first


def test_more_cache_than_memory_is_refused():
    with pytest.raises(UserError, match="loader.cache_mb=100000000: not enough shared memory"):
        loader(Tiny(), cache_mb=100_000_000)


@pytest.mark.parametrize("train", [True, False])
def test_a_file_decoded_smaller_looks_the_same(tmp_path, train):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (4, 5, 3), np.uint8)
    cv2.imwrite(f"{tmp_path}/0.jpg", cv2.resize(small, (641, 483), interpolation=cv2.INTER_CUBIC))

    class Whole(Stored):
        stored = False

        def __init__(self):
            Tiny.__init__(self, 1)
            self.folder = tmp_path

        def image(self, index):
            return read_rgb(self.record(index).path)

    class Reduced(Whole):
        stored = True

    batches = [next(iter(loader(d, train=train, batch_size=1))) for d in (Reduced(), Whole())]
    one, other = (batch.images.short() for batch in batches)
    assert (one - other).abs().float().mean() < 3
    boxes = [batch.objects.boxes for batch in batches]
    assert (boxes[0] - boxes[1]).abs().max() < 1.01


def test_an_image_mixed_with_a_bad_one_is_left_out_with_it():
    data = Tiny(length=8, bad=5, on_error="skip")
    made = loader(data, settings={"mixup": 1.0}, batch_size=8)
    kept = sum(ids(made), [])
    assert "id5" not in kept and len(set(kept)) < 7  # nor those mixed with it
    assert {entry["file"] for entry in data.report} == {"5.png"}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_real_batches_are_the_same_with_any_workers_and_from_the_middle(shared_data, workers):
    data = VOC(root=str(shared_data / "bccd"), split="val")
    augment = part(OmegaConf.load(CONFIGS / "augment" / "yolo.yaml"), "augment")
    given = {"dataset": data, "augment": augment, "size": (96, 128), "batch_size": 8, "train": True}
    alone, many = Loader(**given), Loader(**given, workers=workers)
    whole = [content(batch) for batch in alone]
    many.sampler.seek(0, 4)
    assert len(whole) == 10 and [content(batch) for batch in many] == whole[4:]


def test_the_draws_of_an_image_do_not_depend_on_its_batch():
    def views(batch_size):
        made = loader(Tiny(8), batch_size=batch_size)
        return {m.id: m.matrix.tobytes() for batch in made for m in batch.meta}

    assert views(8) == views(2)


def test_each_image_of_a_batch_is_drawn_for_itself():
    class Same(Tiny):
        def image(self, index):
            return super().image(0)

    batch = next(iter(loader(Same())))
    assert len({m.matrix.tobytes() for m in batch.meta}) == 4


def test_another_seed_gives_other_images():
    first, second = (content(next(iter(loader(Tiny(), seed=seed)))) for seed in (0, 1))
    assert first[0] != second[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_stops_with_its_own_message(workers):
    with pytest.raises(UserError) as caught:
        list(loader(Tiny(bad=5), workers, train=False))
    message, _, mend = str(caught.value).partition("; ")
    assert message == "cannot read the image 5.png: it is broken"
    assert "dataset.on_error=skip" in mend


@pytest.mark.parametrize("workers", [0, 2])
def test_or_is_left_out_and_reported_once(workers):
    data = Tiny(bad=5, on_error="skip")
    made = loader(data, workers, train=False)
    for _ in range(2):
        assert ids(made)[1] == ["id4", "id6", "id7"]
    assert [(e["reason"], e["action"]) for e in data.report] == [
        ("cannot read the image 5.png: it is broken", "left out")
    ]


def test_a_batch_of_nothing_but_bad_images_is_passed_over():
    data = Tiny(length=3, bad=1, on_error="skip")
    assert ids(loader(data, train=False, batch_size=1)) == [["id0"], ["id2"]]


def test_images_are_bytes_and_objects_in_their_pixels():
    batch = next(iter(loader(Tiny(), train=False)))
    assert batch.images.shape == (4, 3, 32, 40) and str(batch.images.dtype) == "torch.uint8"
    # The first image is 30 x 20, squeezed to 40 x 32: x times 4/3, y times 8/5.
    assert batch.objects.of(0).boxes[0].tolist() == pytest.approx([8 / 3, 4.8, 16, 20.8])
    assert batch.objects.batch_index.tolist() == [0, 1, 2, 3]


SIDES = [32, 64, 96]


def drawn(epoch=0, seed=0, **options):
    """The side of every batch."""
    options = {"sizes": SIDES, "sizes_every": 10, "train": True} | options
    sampler = Batches(length=400, batch_size=4, seed=seed, **options)
    sampler.epoch = epoch
    batches = list(sampler)
    assert all(len({tuple(key[2:]) for key in batch}) == 1 for batch in batches)
    return [batch[0][2] for batch in batches]


def test_a_side_is_drawn_for_every_ten_batches_by_seed_and_epoch():
    found = drawn()
    assert len(found) == 100 and set(found) == set(SIDES)
    assert all(len(set(found[i : i + 10])) == 1 for i in range(0, 100, 10))
    assert any(found[i] != found[i + 10] for i in range(0, 100, 20))  # for ten, not for twenty
    assert found == drawn() and len({tuple(drawn(e, s)) for e in range(3) for s in range(3)}) == 9
    often = drawn(sizes_every=1)
    assert all(20 < often.count(side) < 50 for side in SIDES)  # 100 draws of three


def test_the_sides_leave_order_and_draws_of_the_images_alone():
    with_sides = loader(Tiny(8), sizes=SIDES, sizes_every=1)
    same = loader(Tiny(8), sizes=None)
    assert ids(with_sides) == ids(same)
    for one, other in zip(with_sides, same, strict=True):
        height, width = one.images.shape[2:]
        # The same view of the image, on another number of pixels: 32 x 40 without sides.
        scaled = one.meta[0].matrix * np.array([[40 / width], [32 / height]])
        np.testing.assert_allclose(scaled, other.meta[0].matrix, atol=1e-6)


def test_a_letterbox_fits_the_side_that_was_drawn():
    made = loader(Tiny(), fit="letterbox", sizes=[96])
    for meta in next(iter(made)).meta:
        linear = meta.matrix[:, :2]  # square pixels, up to the aspect of 1.2
        assert 1 / 1.2 - 1e-6 <= np.linalg.norm(linear[0]) / np.linalg.norm(linear[1]) <= 1.2 + 1e-6


@pytest.mark.parametrize("workers", [0, 2])
def test_images_and_boxes_come_at_the_side_of_their_batch(workers):
    made = loader(Tiny(20), workers, batch_size=2, sizes=SIDES, sizes_every=2)
    batches = list(made)
    sides = [batch[0][2] for batch in made.sampler]
    assert [batch.images.shape[2:] for batch in batches] == [(side, side) for side in sides]
    assert len(set(sides)) > 1
    for batch, side in zip(batches, sides, strict=True):
        assert batch.objects.boxes.max() <= side
    alone = loader(Tiny(20), 0, batch_size=2, sizes=SIDES, sizes_every=2)
    assert list(map(content, batches)) == list(map(content, alone))


def test_evaluation_stays_at_its_size():
    batches = list(loader(Tiny(), train=False, sizes=SIDES, sizes_every=1))
    assert {batch.images.shape[2:] for batch in batches} == {(32, 40)}


def test_other_images_of_a_training_batch_stand_in_for_a_bad_one_and_none_does_in_evaluation():
    for train in (True, False):
        data = Tiny(length=8, bad=5, on_error="skip")
        batches = ids(loader(data, train=train))
        assert {name for batch in batches for name in batch} == {
            f"id{i}" for i in range(8) if i != 5
        }
        assert sum(map(len, batches)) == (8 if train else 7)
        assert sorted(map(len, batches)) == ([4, 4] if train else [3, 4])
        assert len(data.report) == 1


def test_a_set_of_which_nothing_can_be_read_is_no_success():
    data = Tiny(length=1, bad=0, on_error="skip")
    for train in (True, False):
        with pytest.raises(UserError, match="^not one image could be read; the first: "):
            list(loader(data, train=train))


@pytest.mark.slow
def test_python_ends_though_workers_are_left():
    left = """
import sys
sys.path.insert(0, "tests/engine/data")
from test_loader import Tiny, loader
left = loader(Tiny(), workers=1)
left.itself = left  # a cycle, as the frames of an exception make it
going = iter(left)
next(going)
"""
    done = subprocess.run(
        [sys.executable, "-c", left], cwd=ROOT, check=True, timeout=60, capture_output=True
    )
    assert done.stderr == b""
