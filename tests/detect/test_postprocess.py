import math

import pytest
import torch
from torchvision.ops import box_iou

from detect.postprocess import NMS_METHODS, Postprocess
from engine.errors import UserError

SQUARE, SHIFTED, FAR = [0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]
# SQUARE and SHIFTED share 9 * 10 = 90 of 100 + 100 - 90 = 110: overlap .818.


def run(boxes, scores, **options):
    """One image; [(label, score, x1)] in the order found."""
    found = Postprocess(**options)(torch.tensor([boxes]).float(), torch.tensor([scores]))
    rows = zip(
        found.labels.tolist(), found.scores.tolist(), found.boxes[:, 0].tolist(), strict=True
    )
    return [(label, round(score, 4), x1) for label, score, x1 in rows]


def test_suppression_is_within_a_class():
    scores = [[0.9, 0.0], [0.8, 0.7], [0.6, 0.0]]
    # SHIFTED loses class 0 to SQUARE but keeps class 1; best first.
    expected = [(0, 0.9, 0), (1, 0.7, 1), (0, 0.6, 50)]
    assert run([SQUARE, SHIFTED, FAR], scores) == expected


def test_suppression_is_within_a_class_left_of_the_image():
    # Boxes are not clipped before suppression: the two lie apart and differ in class.
    scores = [[0.9, 0.0], [0.0, 0.8]]
    assert len(run([[0, 0, 100, 100], [-101, -101, -1, -1]], scores)) == 2


@pytest.mark.parametrize("iou, count", [(0.49, 1), (0.5, 2)])
def test_a_box_is_suppressed_by_an_iou_above_the_threshold(iou, count):
    halves = [[0, 0, 10, 10], [0, 0, 10, 20]]  # 100 of 200: overlap exactly .5
    assert len(run(halves, [[0.9], [0.8]], iou=iou)) == count


def test_threshold():
    assert run([SQUARE, FAR], [[0.3], [0.2]], score=0.25) == [(0, 0.3, 0)]
    assert run([SQUARE, FAR], [[0.3], [0.2]], score=0.9) == []


def test_max_detections_is_counted_after_suppression():
    scores = [[0.9], [0.8], [0.7]]
    assert run([SQUARE, SHIFTED, FAR], scores, max_detections=2) == [(0, 0.9, 0), (0, 0.7, 50)]
    assert run([SQUARE, SHIFTED, FAR], scores, max_detections=1) == [(0, 0.9, 0)]


def test_pre_nms_is_counted_before_suppression():
    scores = [[0.9], [0.8], [0.7]]
    assert run([SQUARE, SHIFTED, FAR], scores, pre_nms=2) == [(0, 0.9, 0)]
    assert run([SQUARE, SHIFTED, FAR], scores, pre_nms=1000)[1:] == [(0, 0.7, 50)]


def test_pre_nms_counts_pairs_of_slot_and_class():
    # The two best pairs are both FAR's; SQUARE's .5 comes third.
    assert run([SQUARE, FAR], [[0.5, 0.0], [0.9, 0.8]], pre_nms=2) == [
        (0, 0.9, 50),
        (1, 0.8, 50),
    ]


@pytest.mark.parametrize("nms", NMS_METHODS)
def test_a_score_at_the_threshold_is_dropped(nms):
    # Scores that a head keeps out of NMS are 0, and score=0 drops them too.
    assert run([SQUARE, FAR], [[0.75], [0.5]], nms=nms, score=0.5) == [(0, 0.75, 0)]
    assert run([SQUARE, FAR], [[0.75], [0.0]], nms=nms, score=0.0) == [(0, 0.75, 0)]


def test_soft_nms_drops_scores_lowered_to_the_threshold():
    # SQUARE once more: .8 * exp(-1 / .001) is 0 in float32.
    found = run([SQUARE, SQUARE, FAR], [[0.9], [0.8], [0.6]], nms="soft", sigma=1e-3, score=0.0)
    assert found == [(0, 0.9, 0), (0, 0.6, 50)]


def test_agnostic_suppression_is_across_classes():
    scores = [[0.9, 0.0], [0.8, 0.7], [0.6, 0.0]]
    # SHIFTED overlaps SQUARE by .818 and loses both its classes.
    assert run([SQUARE, SHIFTED, FAR], scores, nms="agnostic") == [(0, 0.9, 0), (0, 0.6, 50)]
    # At .9 all stay, each with every class but for what overlaps it wholly: its own second class.
    kept = run([SQUARE, SHIFTED, FAR], scores, nms="agnostic", iou=0.9)
    assert kept == [(0, 0.9, 0), (0, 0.8, 1), (0, 0.6, 50)]


def test_soft_suppression_lowers_scores_by_hand():
    # .818 ** 2 / .5 = 1.3388: .8 becomes .8 * .26216 = .2097, behind FAR's .6.
    found = run([SQUARE, SHIFTED, FAR], [[0.9], [0.8], [0.6]], nms="soft")
    assert found == [(0, 0.9, 0), (0, 0.6, 50), (0, 0.2097, 1)]
    # sigma 2: .3347, .8 * .7155 = .5724
    found = run([SQUARE, SHIFTED, FAR], [[0.9], [0.8], [0.6]], nms="soft", sigma=2.0)
    assert found == [(0, 0.9, 0), (0, 0.6, 50), (0, 0.5724, 1)]


def test_soft_suppression_is_by_class_and_adds_up():
    scores = [[0.9, 0.0], [0.0, 0.8], [0.7, 0.0]]
    # The third is SQUARE again: .7 * exp(-1 / .5) = .0947. SHIFTED, of class 1, stays .8.
    assert run([SQUARE, SHIFTED, SQUARE], scores, nms="soft") == [
        (0, 0.9, 0),
        (1, 0.8, 1),
        (0, 0.0947, 0),
    ]
    # Three of one class: the last is lowered twice, .7 * .1353 * .2622 = .0248.
    scores = [[0.9], [0.8], [0.7]]
    found = run([SQUARE, SHIFTED, SQUARE], scores, nms="soft")
    assert found == [(0, 0.9, 0), (0, 0.2097, 1), (0, 0.0248, 0)]
    assert run([SQUARE, SHIFTED, SQUARE], scores, nms="soft", score=0.1) == found[:2]
    assert run([SQUARE, SHIFTED, SQUARE], scores, nms="soft", max_detections=1) == found[:1]
    assert run([SQUARE, FAR], [[0.0], [0.0]], nms="soft") == []


def soft_slowly(boxes, scores, sigma, least):
    """arXiv 1704.04503, figure 2, one class, box by box."""
    left, found = dict(enumerate(scores)), []
    while left:
        best = max(left, key=left.get)
        found.append((best, left.pop(best)))
        for i in left:
            left[i] *= math.exp(-(float(box_iou(boxes[[best]], boxes[[i]])) ** 2) / sigma)
    return [(i, score) for i, score in found if score > least]


def test_soft_suppression_equals_the_paper_box_by_box():
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(30, 2, generator=random) * 40
    boxes = torch.cat([corners, corners + torch.rand(30, 2, generator=random) * 50 + 1], 1)
    scores = torch.rand(30, 1, generator=random)
    expected = soft_slowly(boxes, scores[:, 0].tolist(), 0.5, 0.05)
    found = Postprocess(nms="soft", score=0.05)(boxes[None], scores[None])
    assert 5 < len(found) < 30
    assert torch.equal(found.boxes, boxes[[i for i, _ in expected]])
    assert found.scores.tolist() == pytest.approx([score for _, score in expected], rel=1e-4)


@pytest.mark.parametrize("nms", NMS_METHODS)
def test_an_image_does_not_depend_on_its_batch(nms):
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(3, 40, 2, generator=random) * 100 - 20
    sizes = torch.rand(3, 40, 2, generator=random) * 50 + 1
    boxes = torch.cat([corners, corners + sizes], -1)
    scores = torch.rand(3, 40, 4, generator=random)
    scores[1] = 0  # an image with nothing in it
    process = Postprocess(score=0.3, nms=nms)
    together = process(boxes, scores)
    assert sorted(set(together.batch_index.tolist())) == [0, 2]
    for i in range(3):
        alone, there = process(boxes[i : i + 1], scores[i : i + 1]), together.of(i)
        assert torch.equal(alone.boxes, there.boxes)
        assert torch.equal(alone.labels, there.labels)
        assert torch.equal(alone.scores, there.scores)
        assert there.scores.tolist() == sorted(there.scores.tolist(), reverse=True)


@pytest.mark.parametrize(
    "options",
    [{"score": -0.1}, {"score": 1.0}, {"iou": 0.0}, {"iou": 1.5}, {"sigma": 0.0}, {"nms": "hard"}],
)
def test_values_out_of_range_are_refused(options):
    name, value = next(iter(options.items()))
    with pytest.raises(UserError, match=f"{name}={value}"):
        Postprocess(**options)


@pytest.mark.parametrize("nms", NMS_METHODS)
@pytest.mark.parametrize("far", [math.inf, -math.inf, math.nan, 1e30, -1e30, 1e8])
@pytest.mark.parametrize("corner", range(4))
@pytest.mark.parametrize("high", [True, False])
def test_a_box_of_an_absurd_corner_leaves_suppression_of_the_others_as_it_was(
    nms, far, corner, high
):
    boxes = [SQUARE, SHIFTED, [x + 0.5 for x in FAR], FAR]
    scores = [[0.9, 0.05], [0.8, 0.7], [0.65, 0.05], [0.6, 0.05]]
    absurd = [-500, -500, -400, -400]
    absurd[corner] = far
    options = {"nms": nms, "score": 0.3}
    expected = run(boxes, scores, **options)
    # with a high score it may be found itself, once a class; without one it is below the threshold
    own = [0.99, 0.98] if high else [0.01, 0.01]
    found = run([*boxes, absurd], [*scores, own], **options)
    assert [row for row in found if row[1] < 0.95] == expected
    assert len(expected) < 5 or nms == "soft"


def test_classes_stay_apart_beside_an_infinite_box():
    found = run([SQUARE, SQUARE, [0, 0, math.inf, 1]], [[0.9, 0], [0, 0.8], [0, 0]])
    assert found == [(0, 0.9, 0), (1, 0.8, 0)]


def test_the_protocol_names_threshold_suppression_and_limits():
    assert Postprocess().protocol == (
        "scores above 0.01, class_wise NMS (IoU above 0.5, of the best 1000), "
        "at most 100 detections per image"
    )
    soft = Postprocess(nms="soft", sigma=0.3, score=0.2, pre_nms=7, max_detections=5).protocol
    assert soft == (
        "scores above 0.2, soft NMS (sigma 0.3, of the best 7), at most 5 detections per image"
    )


@pytest.mark.parametrize("nms", NMS_METHODS)
@pytest.mark.parametrize("count", [40, 1500])
def test_equal_scores_stand_in_the_order_of_slots_then_classes(nms, count):
    # boxes far apart, each with both classes (agnostic: the second overlaps the first)
    boxes = torch.arange(count).float()[:, None] * 20 + torch.tensor([0.0, 0, 10, 10])
    scores = torch.full((count, 2), 0.5)
    options = {"nms": nms, "pre_nms": 60, "max_detections": 50}
    found = Postprocess(**options)(boxes[None], scores[None])
    each = 1 if nms == "agnostic" else 2
    length = 30 if nms == "agnostic" else 50
    slots = (found.boxes[:, 0] / 20).long().tolist()
    assert slots == [i // each for i in range(length)]
    assert found.labels.tolist() == [i % each for i in range(length)]
    many = Postprocess(**options | {"pre_nms": 10**4, "max_detections": 10**4})(
        boxes[None], scores[None]
    )
    assert (many.boxes[:, 0] / 20).long().tolist() == [i // each for i in range(each * count)]
