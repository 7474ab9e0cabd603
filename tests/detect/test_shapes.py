import cv2
import numpy as np
import pytest

from detect.datasets.shapes import FINE, OUTLINES, VISIBLE, Shapes, _area, _clip, _fill, _inset
from engine.data.views import VIEWS
from engine.errors import UserError

TIMES = 8  # the tests paint this much larger


def paint(corners, size):
    """One shape alone, without clutter or smooth edges: [TIMES * size, TIMES * size] bool."""
    big = np.zeros((TIMES * size, TIMES * size), np.uint8)
    fixed = np.round((corners * TIMES - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(big, [fixed], 1, shift=4)
    return big > 0


def extent(painted):
    rows, columns = (np.flatnonzero(painted.any(axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def test_classes_are_sorted():
    data = Shapes(split="val")
    assert data.classes == ["circle", "cross", "square", "star", "triangle"]
    assert data.report == [] and data.notes == []


def test_the_same_image_every_time():
    one, two = (Shapes(split="train") for _ in range(2))
    two.image(5)  # neither order nor number of calls matters
    two.record(3)
    np.testing.assert_array_equal(one.image(3), two.image(3))
    np.testing.assert_array_equal(one.record(3).boxes, two.record(3).boxes)  # type: ignore[arg-type]
    record = one.record(3)
    assert (record.id, record.path) == ("train_000003", "shapes/train/000003")
    assert one.image(3).shape == (128, 128, 3) and one.image(3).dtype == np.uint8


def test_splits_seeds_and_images_differ():
    kinds = [Shapes(split=s) for s in ("train", "val", "test")] + [Shapes(split="train", seed=1)]
    images = [d.image(i).tobytes() for d in kinds for i in range(3)]
    assert len(set(images)) == 12
    assert [len(d) for d in kinds] == [1000, 200, 200, 1000]


def test_boxes_are_the_extents_of_what_is_painted():
    data = Shapes(split="train", size=96)
    count = clipped = 0
    for scene in map(data.scene, range(150)):
        for shape in scene.shapes:
            assert np.abs(extent(paint(shape.corners, 96)) / TIMES - shape.box).max() < 0.25
            count += 1
            clipped += shape.corners.min() < -2 or shape.corners.max() > 98
    assert count > 300 and clipped > 20


def test_record_holds_the_scene():
    data = Shapes(split="val")
    for i in range(20):
        record, shapes = data.record(i), data.scene(i).shapes
        assert record.boxes is not None and record.boxes.shape == (len(shapes), 4)
        assert record.boxes.dtype == np.float32 and record.labels.dtype == np.int64
        assert record.labels.tolist() == [s.label for s in shapes]
        assert (record.boxes >= 0).all() and (record.boxes <= 128).all()


def test_shapes_stay_visible():
    data, least, hidden = Shapes(split="train", size=64), 1.0, 0
    for scene in map(data.scene, range(600)):
        top = np.full((64 * TIMES, 64 * TIMES), -1)
        for number, shape in enumerate(scene.shapes):
            top[paint(shape.corners, 64)] = number
        for number, shape in enumerate(scene.shapes):
            share = (top == number).sum() / TIMES**2 / _area(shape.corners)
            least, hidden = min(least, share), hidden + (share < 0.95)
    assert hidden > 20  # there is something to hide at all
    assert least > VISIBLE - 0.01  # whole pixels round a little


def test_no_two_boxes_coincide():
    data = Shapes(split="train")
    for boxes in (data.record(i).boxes for i in range(300)):
        assert boxes is not None
        shared = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(
            boxes[:, None, :2], boxes[:, :2]
        )
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        both = shared.clip(0).prod(2)
        iou = both / (area[:, None] + area - both)
        assert (iou[~np.eye(len(boxes), dtype=bool)] <= 1 - VISIBLE + 1e-6).all()


def test_what_the_splits_hold():
    records = [Shapes(split="train").record(i) for i in range(600)]
    counts = np.bincount([len(r.labels) for r in records], minlength=7)
    assert counts.min() > 5 and len(counts) == 7  # from none to six
    labels = np.bincount(np.concatenate([r.labels for r in records]))
    assert labels.min() > 0.8 * labels.mean()
    boxes = np.concatenate([r.boxes for r in records if r.boxes is not None])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1) / 128
    assert sides.max() <= 0.4501 and 0.07 < sides.min() < 0.15


def test_the_image_shows_the_shapes():
    data = Shapes(split="train")
    for i in range(10):
        image = data.image(i).astype(float)
        for shape in data.scene(i).shapes[-1:]:  # the last one lies on top
            x, y = np.floor(shape.corners.mean(0)).astype(int)
            if min(x, y) >= 2 and max(x, y) < 126:
                seen = image[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1))
                assert np.abs(seen - shape.colour).max() < 8


def test_clip_by_hand():
    square = np.array([(-2.0, 1), (2, 1), (2, 5), (-2, 5)])
    inside = _clip(square, 4)  # x from 0 to 2, y from 1 to 4
    assert _area(inside) == 6 and _area(square) == 16
    assert (*inside.min(0), *inside.max(0)) == (0, 1, 2, 4)
    assert len(_clip(square + 100, 4)) == 0


def test_fill_is_in_the_frame_of_the_boxes():
    image = np.zeros((8 * FINE, 12 * FINE, 3), np.uint8)
    _fill(image, np.array([(6.1, 1.1), (10.1, 1.1), (10.1, 5.1), (6.1, 5.1)]), np.full(3, 200.0))
    weight = image[..., 0] / image[..., 0].sum()
    y, x = (float((weight * (g + 0.5)).sum()) / FINE for g in np.indices(weight.shape))
    assert (x, y) == pytest.approx((8.1, 3.1), abs=0.6 / FINE)  # the middle of pixel 0 is at 0.5


def test_inset_by_hand():
    square = np.array([(0.0, 0), (4, 0), (4, 4), (0, 4)])  # clockwise on the screen
    np.testing.assert_allclose(_inset(square, 1), [(1, 1), (3, 1), (3, 3), (1, 3)])


@pytest.mark.parametrize("name", OUTLINES)
def test_insets_shrink_every_outline(name):
    assert _area(_inset(OUTLINES[name], 0.05)) < _area(OUTLINES[name])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split": "vall"}, "no split 'vall' in shapes: there are train, val, test; did you mean"),
        ({"size": 8}, "dataset.size is 8, expected 32 or more"),
        ({"val": 0}, "dataset.val is 0, expected 1 or more"),
        ({"max_objects": 0}, "dataset.max_objects is 0, expected 1 or more"),
        ({"seed": -1}, "dataset.seed is -1, expected 0 or more"),
    ],
)
def test_bad_arguments(given, message):
    with pytest.raises(UserError, match=message):
        Shapes(**{"split": "train", **given})


def test_views():
    whole, largest, many = (Shapes(split="val", val=9, view=v) for v in VIEWS)
    for i in range(9):
        every, one, names = whole.record(i), largest.record(i), many.record(i)
        assert len(one.labels) == min(len(every.labels), 1) and every.size == (128, 128)
        assert names.boxes is None and names.labels.tolist() == sorted(set(every.labels.tolist()))
        if len(one.labels):
            area = (every.boxes[:, 2:] - every.boxes[:, :2]).prod(1)
            assert one.boxes[0].tolist() == every.boxes[area.argmax()].tolist()


def test_with_one_label_an_image_none_is_empty_and_the_others_stay():
    whole, one = (Shapes(split="train", train=60, view=view) for view in ("all", "largest"))
    empty = [i for i in range(60) if not len(whole.record(i).labels)]
    assert empty and all(len(one.record(i).labels) == 1 for i in range(60))
    assert all(np.array_equal(whole.image(i), one.image(i)) for i in range(20) if i not in empty)
