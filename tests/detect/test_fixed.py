"""The decoding of an exported file, of a fixed size, against that of a checkpoint."""

import pytest
import torch

from detect.postprocess import Postprocess
from engine.errors import UserError
from engine.structures import Fixed


def random_boxes(images=3, slots=60, classes=7, spread=100.0, seed=0):
    """Boxes that overlap often, and scores."""
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, slots, 2, generator=draw) * spread
    sides = 20 + torch.rand(images, slots, 2, generator=draw) * 30
    return torch.cat([corner, corner + sides], 2), torch.rand(
        images, slots, classes, generator=draw
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("nms", ["class_wise", "agnostic"])
def test_the_same_objects_in_the_same_order(nms, seed):
    options = {"nms": nms, "score": 0.6, "iou": 0.4, "pre_nms": 90, "max_detections": 20}
    boxes, scores = random_boxes(seed=seed)
    wanted = Postprocess(**options)(boxes, scores)
    fixed = Postprocess(**options).fixed(boxes, scores)
    found = fixed.objects()
    assert fixed.scores.shape == (3, 20) and 0 < len(wanted) < 61
    for name in ("boxes", "labels", "batch_index", "scores"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name


def test_classes_and_images_do_not_suppress_each_other():
    # The same box in two images, in each of nine classes: nothing is suppressed.
    boxes, scores = torch.tensor([[[0.0, 0, 10, 10]]]).repeat(2, 1, 1), torch.full((2, 1, 9), 0.5)
    assert len(Postprocess().fixed(boxes, scores).objects()) == 18
    assert len(Postprocess(nms="agnostic").fixed(boxes, scores).objects()) == 2


def test_rows_behind_the_last_object_are_told_apart_from_objects():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [50, 50, 60, 60]]])
    found = Postprocess(score=0.5).fixed(boxes, torch.tensor([[[0.9], [0.4]]]))
    assert found.scores.tolist() == [[pytest.approx(0.9), -1.0]]
    assert found.labels.tolist() == [[0, -1]] and found.boxes[0, 1].tolist() == [0, 0, 0, 0]
    assert len(found.objects()) == 1


def test_boxes_far_outside_cost_the_others_no_precision():
    # Of 90 classes, the last is moved the farthest; its two boxes overlap by .5 less a little.
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 20.01], [-9000, -9000, 9000, 9000]]])
    scores = torch.zeros(1, 3, 90)
    scores[0, :, 89] = torch.tensor([0.9, 0.8, 0.7])
    assert len(Postprocess(iou=0.5).fixed(boxes, scores).objects()) == 3


def test_a_nan_is_no_missing_row():
    nan = torch.tensor([[torch.nan]])
    assert len(Fixed(torch.zeros(1, 1, 4), nan, torch.zeros(1, 1).long()).objects()) == 1


def test_soft_suppression_is_refused():
    with pytest.raises(UserError, match="soft NMS is a loop"):
        Postprocess(nms="soft").fixed(*random_boxes())
