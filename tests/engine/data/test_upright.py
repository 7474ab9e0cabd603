"""Boxes stay with their pixels through the turn of EXIF, as Pillow turns the image."""

import json
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from engine.data.augment import Augment
from engine.data.image import read_rgb
from engine.data.loader import Loader
from engine.data.upright import BACK, as_annotated, turn_boxes, turn_of, upright
from engine.output import predictions
from engine.record import Meta, Record
from engine.structures import Objects, to_original
from engine.training import loop

STORED = (40, 64)  # (height, width)
BOX = [10, 4, 30, 14]  # of the stored image
TURNS = range(1, 9)


def painted(folder, turn, size=STORED):
    """A black file with one white box, and an EXIF orientation."""
    image = np.zeros((*size, 3), np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    exif = Image.Exif()
    exif[274] = turn
    path = str(folder / f"{turn}.png")
    Image.fromarray(image).save(path, exif=exif)
    return path


def white_box(image):
    rows, columns = np.nonzero(image[..., 0] > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def seen_by_pillow(path):
    with Image.open(path) as image:
        turned = np.asarray(ImageOps.exif_transpose(image))
    return turned.shape[:2], white_box(turned)


def record(path, size):
    return Record("a", path, np.zeros(1, np.int64), np.array([BOX], np.float32), size=size)


@pytest.mark.parametrize("turn", TURNS)
def test_a_box_goes_where_pillow_puts_its_pixels(tmp_path, turn):
    size, box = seen_by_pillow(painted(tmp_path, turn))
    found = turn_boxes(np.array([BOX], np.float32), turn, STORED)
    assert found.tolist() == [box]
    back = turn_boxes(found, BACK.get(turn, turn), size)
    assert back.tolist() == [BOX]


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_the_declared_size_decides_in_which_pixels_the_boxes_are(tmp_path, turn):
    path = painted(tmp_path, turn)
    size, box = seen_by_pillow(path)
    stored, shown = record(path, STORED), record(path, size)
    assert turn_of(stored, size) == turn
    turned = upright(stored, turn, size)
    assert turned.size == size and turned.boxes.tolist() == [box]
    assert turn_of(turned, size) == 1  # once is enough
    assert turn_of(shown, size) == 1 and upright(shown, 1, size) is shown


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("declared", [None, (7, 9)])
def test_where_the_size_leaves_it_open_boxes_are_upright(tmp_path, turn, declared):
    path = painted(tmp_path, turn)
    assert turn_of(record(path, declared), seen_by_pillow(path)[0]) == 1


def test_squares_and_halves_count_the_upright_image_and_a_wrong_size_turns_nothing(tmp_path):
    assert turn_of(record(painted(tmp_path, 6, (64, 64)), (64, 64)), (64, 64)) == 1
    assert turn_of(record(painted(tmp_path, 3), STORED), STORED) == 1
    assert turn_of(record(painted(tmp_path, 1), STORED[::-1]), STORED) == 1  # no turn asked for


class Turned:
    """Five files of one image; the boxes are in pixels of the stored image."""

    classes, report, notes, on_error = ["box"], [], [], "fail"

    def __init__(self, folder):
        self.records = [record(painted(folder, turn), STORED) for turn in (1, 5, 6, 7, 8)]

    def __len__(self):
        return len(self.records)

    def record(self, index):
        return self.records[index]

    def image(self, index):
        return read_rgb(self.records[index].path)


@pytest.mark.parametrize("train", [False, True])
def test_the_network_gets_upright_pixels_and_their_boxes(tmp_path, train):
    data = Turned(tmp_path)
    augment = Augment(flip=0.5, scale=(1.0, 1.5))
    for batch in Loader(dataset=data, augment=augment, size=(128, 128), batch_size=1, train=train):
        image = batch.images[0].permute(1, 2, 0).numpy()
        found = batch.objects.boxes[0].numpy()
        assert np.abs(found - white_box(image)).max() <= 1.5


def test_truth_prediction_and_drawing_are_upright_and_the_file_counts_as_the_annotation(tmp_path):
    data = Turned(tmp_path)
    loader = Loader(dataset=data, augment=Augment(), size=(96, 96), batch_size=5)
    (batch,) = loader
    found = to_original(batch.objects, batch.meta)  # a network that finds just the truth
    true = loop.true_objects(loader, batch.meta)
    torch.testing.assert_close(found.boxes, true.boxes, atol=1e-3, rtol=0)
    for i, meta in enumerate(batch.meta):
        assert true.of(i).boxes[0].tolist() == white_box(data.image(meta.index))
    with closing(
        predictions.Writer(tmp_path / "found.json", predictions.named(["thing"], [1]))
    ) as writer:
        writer.add(found, batch.meta)
    for row in json.loads((tmp_path / "found.json").read_text()):
        assert row["bbox"] == pytest.approx([10, 4, 20, 10], abs=1e-3)  # BOX as x, y, w, h


SIDES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@given(st.sampled_from(TURNS), SIDES, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_a_turn_and_its_back_are_nothing_and_boxes_stay_inside(turn, size, shares):
    x, y = np.sort(shares[:2]) * size[1], np.sort(shares[2:]) * size[0]
    boxes = np.array([[x[0], y[0], x[1], y[1]]])
    turned = turn_boxes(boxes, turn, size)
    seen = size[::-1] if turn >= 5 else size
    assert (turned >= 0).all() and (turned[:, 2:] <= seen[::-1]).all()
    assert (turned[:, :2] <= turned[:, 2:]).all()
    meta = [Meta(0, 0, "", seen, np.eye(2, 3), turn)]
    back = as_annotated(turned, np.zeros(1, int), meta)
    np.testing.assert_allclose(back, boxes, atol=1e-9)
    assert len(Objects.empty()) == len(as_annotated(np.zeros((0, 4)), np.zeros(0, int), meta))
