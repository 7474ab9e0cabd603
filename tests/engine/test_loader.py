import multiprocessing

import numpy as np
import pytest

from engine.data.augment import Augment
from engine.data.loader import Loader
from engine.data.sampler import Batches
from engine.errors import UserError
from engine.structures import Record


class Tiny:
    """Random pictures of several sizes, each with one object; the picture `bad` cannot be read."""

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
            raise UserError(f"cannot read the picture {index}.png: it is broken")
        rng = np.random.default_rng(index)
        return rng.integers(0, 256, (20 + index, 30, 3), np.uint8)


def loader(data, workers=0, train=True, batch_size=4, seed=0, fit="squeeze", **options):
    augment = Augment(
        fit=fit, flip=0.5, scale=(0.7, 1.2), aspect=1.2, rotate=9, brightness=0.2, hue=9
    )
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


def test_evaluation_takes_every_picture_once_in_order():
    found = ids(loader(Tiny(), train=False))
    assert sum(found, []) == [f"id{i}" for i in range(10)] and len(found) == 3


def test_another_epoch_gives_other_pictures():
    made = loader(Tiny(4))
    first = content(next(iter(made)))
    made.sampler.epoch = 1
    assert content(next(iter(made)))[0] != first[0]
    made.sampler.epoch = 0
    assert content(next(iter(made))) == first


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_same_seed_and_epoch_give_the_same_bytes_with_any_workers(epoch):
    found = []
    for workers in (0, 2):
        made = loader(Tiny(), workers)
        made.sampler.epoch = epoch
        found.append([content(batch) for batch in made])
    assert len(found[0]) == 2 and found[0] == found[1]


def test_the_draws_of_a_picture_do_not_depend_on_its_batch():
    def views(batch_size):
        made = loader(Tiny(8), batch_size=batch_size)
        return {m.id: m.matrix.tobytes() for batch in made for m in batch.meta}

    assert views(8) == views(2)


def test_each_picture_of_a_batch_is_drawn_for_itself():
    class Same(Tiny):
        def image(self, index):
            return super().image(0)

    batch = next(iter(loader(Same())))
    assert len({m.matrix.tobytes() for m in batch.meta}) == 4


def test_another_seed_gives_other_pictures():
    first, second = (content(next(iter(loader(Tiny(), seed=seed)))) for seed in (0, 1))
    assert first[0] != second[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_read_stops_with_its_own_message(workers):
    with pytest.raises(UserError) as caught:
        list(loader(Tiny(bad=5), workers, train=False))
    message, _, mend = str(caught.value).partition("; ")
    assert message == "cannot read the picture 5.png: it is broken"
    assert "dataset.on_error=skip" in mend


@pytest.mark.parametrize("workers", [0, 2])
def test_or_is_left_out_and_reported_once(workers):
    data = Tiny(bad=5, on_error="skip")
    made = loader(data, workers, train=False)
    for _ in range(2):
        assert ids(made)[1] == ["id4", "id6", "id7"]
    assert [(e["reason"], e["action"]) for e in data.report] == [
        ("cannot read the picture 5.png: it is broken", "left out")
    ]


def test_a_batch_of_nothing_but_bad_pictures_is_passed_over():
    data = Tiny(length=3, bad=1, on_error="skip")
    assert ids(loader(data, train=False, batch_size=1)) == [["id0"], ["id2"]]


def test_images_are_bytes_and_objects_in_their_pixels():
    batch = next(iter(loader(Tiny(), train=False)))
    assert batch.images.shape == (4, 3, 32, 40) and str(batch.images.dtype) == "torch.uint8"
    # The first picture is 30 x 20, squeezed to 40 x 32: x times 4/3, y times 8/5.
    assert batch.objects.of(0).boxes[0].tolist() == pytest.approx([8 / 3, 4.8, 16, 20.8])
    assert batch.objects.image.tolist() == [0, 1, 2, 3]


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


def test_the_sides_leave_order_and_draws_of_the_pictures_alone():
    with_sides = loader(Tiny(8), sizes=SIDES, sizes_every=1)
    same = loader(Tiny(8), sizes=None)
    assert ids(with_sides) == ids(same)
    for one, other in zip(with_sides, same, strict=True):
        height, width = one.images.shape[2:]
        # The same view of the picture, on another number of pixels: 32 x 40 without sides.
        scaled = one.meta[0].matrix * np.array([[40 / width], [32 / height]])
        np.testing.assert_allclose(scaled, other.meta[0].matrix, atol=1e-6)


def test_a_letterbox_fits_the_side_that_was_drawn():
    made = loader(Tiny(), fit="letterbox", sizes=[96])
    for meta in next(iter(made)).meta:
        linear = meta.matrix[:, :2]  # square pixels, up to the aspect of 1.2
        assert 1 / 1.2 - 1e-6 <= np.linalg.norm(linear[0]) / np.linalg.norm(linear[1]) <= 1.2 + 1e-6


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_and_boxes_come_at_the_side_of_their_batch(workers):
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


def test_workers_end_when_the_loader_is_closed_though_a_cycle_keeps_it():
    made = loader(Tiny(), workers=1)
    made.itself = made
    list(made)
    assert multiprocessing.active_children()
    made.close()
    assert not multiprocessing.active_children()
