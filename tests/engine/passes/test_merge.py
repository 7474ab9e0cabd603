import numpy as np
import pytest
import torch

from engine.passes.merge import SuppressAcross, mean_scores, merged
from engine.record import Meta
from engine.structures import Batch, Objects

LEFT, RIGHT = (0, 0, 640, 640), (360, 0, 1000, 640)


def meta(window=None, index=0, passes=2, size=(640, 1000)):
    return Meta(index, index, "", size, np.eye(2, 3), window=window, passes=passes)


def objects(*rows):
    """Objects of (box, score) or (box, score, label)."""
    boxes = torch.tensor([row[0] for row in rows], dtype=torch.float32).view(-1, 4)
    labels = torch.tensor([row[2] if len(row) > 2 else 0 for row in rows], dtype=torch.int64)
    return Objects(boxes, labels, scores=torch.tensor([float(row[1]) for row in rows]))


def merge(left, right, **options):
    found = SuppressAcross(iou=0.5, max_detections=100, **options)(
        [(objects(*left), meta(LEFT)), (objects(*right), meta(RIGHT))]
    )
    rows = zip(found.boxes.tolist(), found.scores.tolist(), strict=True)
    return [(tuple(map(int, box)), round(score, 3)) for box, score in rows]


WHOLE, HALF = (600, 100, 700, 200), (600, 100, 640, 200)  # an IoU of .4, below that of NMS


def test_a_cut_half_goes_even_where_it_scores_more():
    assert merge([(HALF, 0.9)], [(WHOLE, 0.6)]) == [(WHOLE, 0.6)]
    most = (600, 100, 640, 200), (600, 100, 660, 200)  # an IoU of .67: NMS would keep the cut one
    assert merge([(most[0], 0.9)], [(most[1], 0.6)]) == [(most[1], 0.6)]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([(HALF, 0.9)], [(WHOLE, 0.4)]),  # hardly an object
        ([(HALF, 0.9, 1)], [(WHOLE, 0.6, 0)]),  # of another class
        ([((580, 100, 620, 200), 0.9)], [((580, 100, 680, 200), 0.6)]),  # 20 px off the edge: whole
        ([(HALF, 0.9), (WHOLE, 0.6)], []),  # one window has both; the second ends at 640 then
        ([(HALF, 0.9)], [((615, 100, 715, 200), 0.6)]),  # 25 of 40 px are covered, less than .7
    ],
)
def test_what_is_no_part_of_another_object_stays(left, right):
    assert len(merge(left, right)) == len(left) + len(right) - (len(left) == 2)


def test_an_edge_of_the_image_cuts_nothing():
    # in the corner of the image, and inside a larger one of the other window
    corner, around = (960, 0, 1000, 40), (900, 0, 1000, 100)
    passes = [(objects((corner, 0.9)), meta(RIGHT)), (objects((around, 0.8)), meta())]
    assert len(SuppressAcross(iou=0.5, max_detections=9)(passes)) == 2


def test_nms_goes_over_all_windows():
    near = (602, 100, 702, 200)
    assert merge([((400, 100, 500, 200), 0.3)], [((402, 100, 502, 200), 0.7)]) == [
        ((402, 100, 502, 200), 0.7)]  # fmt: skip
    assert merge([], [(WHOLE, 0.5), (near, 0.6, 1)]) == [(near, 0.6), (WHOLE, 0.5)]
    assert merge([], [(WHOLE, 0.5), (near, 0.6, 1)], by_class=False) == [(near, 0.6)]


def test_boxes_end_with_their_window_and_detections_have_a_limit():
    assert merge([((500, 600, 900, 700), 0.5)], []) == [((500, 600, 640, 640), 0.5)]
    assert merge([((700, 0, 900, 90), 0.5)], []) == []  # beside what it saw
    apart = [((10 * i, 0, 10 * i + 5, 5), 0.1 + i / 100) for i in range(20)]
    passes = [(objects(*apart), meta(LEFT)), (objects(), meta(RIGHT))]
    found = SuppressAcross(iou=0.5, max_detections=4)(passes)
    assert np.allclose(found.scores, [0.1 + i / 100 for i in range(19, 11, -1)])


def test_scores_of_whole_images_are_averaged():
    box = (0, 0, 1000, 640)
    first, second = objects((box, 0.6, 0), (box, 0.4, 1)), objects((box, 0.8, 1), (box, 0.2, 2))
    found = mean_scores([(first, meta()), (second, meta())])
    assert found.labels.tolist() == [1, 0] and np.allclose(found.scores, [0.6, 0.3])
    assert found.boxes.tolist() == [[0, 0, 1000, 640]] * 2


def test_images_are_merged_in_order_and_left_out_where_a_pass_is_missing():
    metas = [meta(index=i, passes=2) for i in (0, 0, 1, 2, 2, 3, 3)]  # one of image 1 is missing
    batches = []
    for part in (metas[:3], metas[3:]):
        found = Objects.cat([objects(((0, 0, 9, 9), 0.5 + m.index / 10)) for m in part])
        batches.append((found, Batch(torch.zeros(0), Objects.empty(), part), {}))
    out = list(merged(batches, SuppressAcross(iou=0.5, max_detections=9), images=2))
    assert [[m.index for m in batch.meta] for _, batch, _ in out] == [[0, 2], [3]]
    assert np.allclose(out[0][0].scores, [0.5, 0.7]) and out[0][0].batch_index.tolist() == [0, 1]
