import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.viewport import Viewport
from engine.record import Meta, Record
from engine.structures import Objects, Output, Sample, collate, to_original

EXACT = settings(max_examples=60, deadline=None, derandomize=True)


def objects(*boxes, labels=None):
    labels = list(range(len(boxes))) if labels is None else labels
    return Objects(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels))


def meta(size=(10, 20), matrix=((1, 0, 0), (0, 1, 0))):
    return Meta(0, "a", "a.jpg", size, np.array(matrix, float))


def test_what_is_left_out_is_filled_in():
    made = objects((1, 2, 4, 8), (0, 0, 3, 1))
    assert made.batch_index.tolist() == [0, 0] and made.batch_index.dtype == torch.int64
    assert made.scores.tolist() == [1, 1] and made.scores.dtype == torch.float32
    assert made.ignore.tolist() == [False, False]
    assert made.area.tolist() == [18, 3]  # (4 - 1) * (8 - 2), 3 * 1
    assert len(made) == 2


def test_empty_has_every_field():
    none = Objects.empty()
    assert len(none) == 0 and none.boxes.shape == (0, 4) and none.area.shape == (0,)
    assert len(Objects.cat([])) == 0 and len(Objects.cat([none, none])) == 0


def test_cat_numbers_the_images_and_of_takes_one_back():
    parts = [objects((0, 0, 1, 1)), Objects.empty(), objects((0, 0, 2, 2), (0, 0, 3, 3))]
    batch = Objects.cat(parts)
    assert batch.batch_index.tolist() == [0, 2, 2]
    assert batch.area.tolist() == [1, 4, 9]
    assert len(batch.of(1)) == 0
    third = batch.of(2)
    assert third.batch_index.tolist() == [0, 0] and third.area.tolist() == [4, 9]
    assert batch.batch_index.tolist() == [0, 2, 2]  # the batch is as it was


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 2, 0]])
def test_split_is_of_for_every_image(order):
    parts = [
        objects((0, 0, 1, 1)),
        Objects.empty(),
        objects((0, 0, 2, 2), (0, 0, 3, 3), (1, 1, 2, 2)),
    ]
    batch = Objects.cat(parts).select(torch.tensor(order))
    split = batch.split(4)
    assert [len(part) for part in split] == [1, 0, 3, 0]
    for image, part in enumerate(split):
        for field in ("boxes", "labels", "batch_index", "scores", "ignore", "area"):
            assert torch.equal(getattr(part, field), getattr(batch.of(image), field))
    assert [len(part) for part in Objects.empty().split(2)] == [0, 0]


def test_select_keeps_all_fields_in_step():
    made = objects((0, 0, 1, 1), (0, 0, 2, 2), (0, 0, 3, 3), labels=[7, 8, 9])
    made.scores = torch.tensor([0.1, 0.2, 0.3])
    by_mask, by_index = made.select(made.labels != 8), made.select(torch.tensor([2, 0]))
    assert by_mask.labels.tolist() == [7, 9] and by_mask.area.tolist() == [1, 9]
    assert by_index.labels.tolist() == [9, 7]
    assert by_index.scores.tolist() == pytest.approx([0.3, 0.1])


def test_to_moves_every_field():
    moved = objects((0, 0, 1, 1)).to("meta")
    assert {getattr(moved, f).device.type for f in vars(moved)} == {"meta"}


def test_a_record_without_boxes_is_one_object_as_large_as_the_image():
    made = Objects.from_record(Record("a", "a.jpg", np.array([3])), (480, 640))
    assert made.boxes.tolist() == [[0, 0, 640, 480]] and made.labels.tolist() == [3]
    assert made.area.tolist() == [480 * 640]


def test_a_record_keeps_its_own_area_and_ignore():
    record = Record(
        "a",
        "a.jpg",
        np.array([0, 1]),
        np.array([[0, 0, 4, 4], [1, 1, 2, 2]], np.float32),
        ignore=np.array([False, True]),
        area=np.array([7, 0.5], np.float32),
    )
    made = Objects.from_record(record, (9, 9))
    assert made.ignore.tolist() == [False, True] and made.area.tolist() == [7, 0.5]


@pytest.mark.parametrize("boxes", [np.zeros((0, 4), np.float32), np.array([])])
def test_a_record_without_objects(boxes):
    made = Objects.from_record(Record("a", "", np.array([]), boxes), (9, 9))
    assert len(made) == 0 and made.boxes.shape == (0, 4) and made.labels.dtype == torch.int64


def test_collate_stacks_images_and_numbers_objects():
    red = np.zeros((2, 3, 3), np.uint8)
    red[..., 0] = 200
    blank = np.zeros_like(red)
    none = Record("a", "", np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    one = Record("b", "", np.array([0]), np.array([[0, 0, 1, 1]], np.float32))
    batch = collate([Sample(blank, none, meta()), Sample(red, one, meta())])
    assert batch.images.shape == (2, 3, 2, 3) and batch.images.dtype == torch.uint8
    assert batch.images[1, :, 0, 0].tolist() == [200, 0, 0] and not batch.images[0].any()
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.objects.batch_index.tolist() == [1] and len(batch.meta) == 2
    assert batch.objects.scores.tolist() == [1]


def test_collate_keeps_the_shares_of_mixed_images():
    image = np.zeros((2, 3, 3), np.uint8)
    two, one = Record("a", "", np.array([4, 1])), Record("b", "", np.array([2]))
    batch = collate(
        [Sample(image, one, meta()), Sample(image, two, meta(), np.array([0.75, 0.25], np.float32))]
    )
    assert batch.objects.labels.tolist() == [2, 4, 1]
    assert batch.objects.scores.tolist() == [1, 0.75, 0.25]
    assert batch.objects.boxes.tolist() == [[0, 0, 3, 2]] * 3


def test_to_original_by_hand():
    # The first image was halved: x 5..30 came from 10..60, clipped to its width 40; y 1..2 from
    # 2..4. The second was mirrored in a width of 20, x' = 20 - x: 5..8 came from 12..15.
    metas = [meta((10, 40), ((0.5, 0, 0), (0, 0.5, 0))), meta((10, 20), ((-1, 0, 20), (0, 1, 0)))]
    found = objects((5, 1, 30, 2), (5, -3, 8, 4))
    found.batch_index = torch.tensor([0, 1])
    back = to_original(found, metas)
    assert back.boxes.tolist() == [[10, 2, 40, 4], [12, 0, 15, 4]]
    assert back.area.tolist() == [60, 12]  # of the boxes it returns
    assert back.labels.tolist() == [0, 1] and back.batch_index.tolist() == [0, 1]


def test_to_original_of_nothing():
    assert to_original(Objects.empty(), [meta()]).boxes.shape == (0, 4)


def seen(box, viewport, size):
    """Where a box lies in the network's input, edge by edge: no matrix."""
    x1, y1, x2, y2 = box
    xs = [(x - viewport.x + viewport.width / 2) / viewport.width * size[1] for x in (x1, x2)]
    ys = [(y - viewport.y + viewport.height / 2) / viewport.height * size[0] for y in (y1, y2)]
    if viewport.flip_x:
        xs = [size[1] - xs[1], size[1] - xs[0]]
    if viewport.flip_y:
        ys = [size[0] - ys[1], size[0] - ys[0]]
    return xs[0], ys[0], xs[1], ys[1]


side = st.integers(1, 2000)
extent = st.floats(10, 4000)


@EXACT
@given(
    size=st.tuples(side, side),
    target=st.tuples(st.integers(32, 640), st.integers(32, 640)),
    viewport=st.builds(
        Viewport, x=extent, y=extent, width=extent, height=extent, angle=st.just(0.0),
        flip_x=st.booleans(), flip_y=st.booleans(),
    ),
    corners=st.tuples(*[st.floats(-0.2, 1.2)] * 4),
)  # fmt: skip
def test_to_original_undoes_every_view(size, target, viewport, corners):
    height, width = size
    x1, x2 = sorted(width * c for c in corners[:2])
    y1, y2 = sorted(height * c for c in corners[2:])
    there = objects(seen((x1, y1, x2, y2), viewport, target))
    back = to_original(there, [meta(size, viewport.matrix(target))]).boxes[0].tolist()
    inside = [min(max(v, 0), m) for v, m in zip((x1, y1, x2, y2), (width, height) * 2, strict=True)]
    assert back == pytest.approx(inside, abs=0.05)


def test_output_first_cuts_what_belongs_to_images_only():
    slots = torch.zeros(5, 4)
    output = Output(torch.arange(15.0).view(3, 5, 1), boxes=torch.ones(3, 5, 4), slots=slots)
    cut = output.first(2)
    assert cut.logits.flatten().tolist() == list(range(10)) and cut.boxes.shape == (2, 5, 4)
    assert cut.objectness is None and cut.slots is slots and cut.cells is None


def test_output_float():
    output = Output(torch.ones(1, 2, 3, dtype=torch.bfloat16), slots=torch.ones(2, 4)).float()
    assert output.logits.dtype == output.slots.dtype == torch.float32
    assert output.boxes is None


def test_what_lies_outside_its_image_is_ignored():
    boxes = np.array([[-9, 2, 0, 6], [1, 9, 4, 12], [8, 8, 30, 30], [12, 0, 14, 3]], np.float32)
    record = Record("a", "", np.zeros(4, np.int64), boxes)
    assert Objects.from_record(record, (9, 12)).ignore.tolist() == [True, True, False, True]
    assert Objects.from_record(record, (0, 0)).ignore.tolist() == [True, False, False, False]
    assert not Objects.from_record(Record("a", "", np.array([3])), (0, 0)).ignore.any()
