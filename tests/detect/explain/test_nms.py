"""`topic=nms`: steps by hand, an IoU by hand, and torchvision's suppression as the judge."""

import numpy as np
import pytest
import torch
from torchvision.ops import nms as judge

from detect.explain import nms
from detect.postprocess import Postprocess
from engine.config.tools import ExplainConfig
from engine.errors import UserError


def test_an_overlap_by_hand():
    # 40 x 40 shared, of 2 * 80 * 80 - 40 * 40
    a, b = [0, 0, 80, 80, 1.0], [40, 40, 120, 120, 1.0]
    assert nms.box_iou(a, b) == nms.box_iou(b, a) == 1600 / 11200
    assert nms.box_iou(a, a) == 1 and nms.box_iou(a, [80, 0, 90, 80, 1.0]) == 0
    assert nms.box_iou(a, [10, 20, 70, 80, 1.0]) == 9 / 16  # a box inside


def test_the_steps_by_hand():
    # 80 wide each: 20 apart 3/5, 40 apart 1/3
    boxes = [[x, 0, x + 80, 10, score] for x, score in ((20, 0.8), (0, 0.9), (40, 0.7))]
    first, second = nms.suppress(boxes, 0.5)
    assert first == (1, {0: pytest.approx(0.6)}, [2])
    assert second == (2, {}, [])  # the removed box removes nothing


def test_an_overlap_of_just_the_threshold_stays():
    boxes = [[0, 0, 10, 10, 0.9], [0, 0, 10, 5, 0.8]]
    assert len(nms.suppress(boxes, 0.5)) == 2 and len(nms.suppress(boxes, 0.49)) == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0])
def test_any_boxes_are_kept_as_by_torchvision_and_the_heads(seed, threshold):
    random = np.random.default_rng(seed)
    corners = random.integers(0, 60, (40, 2))
    sides = random.integers(5, 50, (40, 2))
    scores = random.permutation(40)[:, None] / 50 + 0.1
    boxes = np.hstack([corners, corners + sides, scores]).tolist()
    kept = [step.takes for step in nms.suppress(boxes, threshold)]
    table = torch.tensor(boxes, dtype=torch.float64)
    assert kept == judge(table[:, :4], table[:, 4], threshold).tolist()
    found = Postprocess(iou=threshold)(table[None, :, :4].float(), table[None, :, 4:].float())
    assert found.boxes.tolist() == [boxes[i][:4] for i in kept]


def test_the_table_of_the_default_boxes():
    config = ExplainConfig()
    explanation = nms.explain(config.boxes, config.iou, None)
    assert [(row["takes"], row["left"]) for row in explanation.rows] == [
        (7, "0, 5, 1, 6, 2, 3, 4"), (0, "5, 6, 4"), (5, "4"), (4, "-")]  # fmt: skip
    assert explanation.rows[1]["removes (IoU)"].endswith("3 (0.562)")  # 9/16
    assert explanation.lines == ["kept: 7, 0, 5, 4; torchvision.ops.nms keeps 7, 0, 5, 4"]


@pytest.mark.parametrize("box", [[5, 0, 5, 9, 0.5], [0, 9, 5, 0, 0.5], [0, 0, 5, 9, 1.5]])
def test_what_is_no_box_is_refused(box):
    with pytest.raises(UserError, match="number 0 is .* expected .x1, y1, x2, y2, score."):
        nms.explain([box], 0.5, None)
