import numpy as np
import pytest
import torch

from classify.metrics.multi_label import MultiLabel
from detect.metrics.voc_map import VOCMap
from engine.output.run_log import THRESHOLDS, _to_number, counts
from engine.record import Meta, Ranked
from engine.structures import Objects


def test_counts_of_a_curve_by_hand():
    # Two of the three objects are predicted, at .9 and .2, and a false positive at .5.
    ranked = Ranked(np.array([0.9, 0.5, 0.2]), np.array([True, False, True]), 3)
    columns = np.stack(counts(ranked), 1)  # right, wrong, rejected, missed, precision, recall
    at = {t: columns[round(t * (THRESHOLDS - 1))].tolist() for t in (0, 1 / 3, 2 / 3, 1)}
    assert at[0] == pytest.approx([2, 1, 0, 1, 2 / 3, 2 / 3])
    assert at[1 / 3] == pytest.approx([1, 1, 0, 2, 1 / 2, 1 / 3])
    assert at[2 / 3] == pytest.approx([1, 0, 1, 2, 1, 1 / 3])
    assert at[1] == pytest.approx([0, 0, 1, 3, 1, 0])


def test_curves_without_predictions_do_not_divide_by_zero():
    columns = counts(Ranked(np.zeros(0), np.zeros(0, bool), 2))
    assert np.stack(columns, 1)[0].tolist() == [0, 0, 0, 2, 1, 0]


def metas(count):
    return [Meta(i, i, f"{i}.jpg", (99, 99), np.eye(2, 3)) for i in range(count)]


def objects(*rows, ignore=None):
    """Rows are (image, label, score, x)."""
    image, label, score, x = torch.tensor(rows, dtype=torch.float64).T
    boxes = torch.stack([x, x * 0, x + 9, x * 0 + 9], 1).float()
    return Objects(boxes, label.long(), image.long(), score.float(), ignore)


def test_detections_are_ranked_as_the_metric_judges_them():
    metric = VOCMap(classes=["cat", "dog", "fox"])
    difficult = torch.tensor([False, False, True])
    true = objects((0, 0, 1, 0), (1, 0, 1, 50), (1, 0, 1, 80), ignore=difficult)
    predicted = objects((0, 0, 0.25, 0), (0, 0, 0.5, 30), (1, 0, 0.75, 80), (1, 1, 0.5, 0))
    metric.update(predicted, true, metas(2))
    (found,) = metric.ranked().values()  # there is no dog or fox to find
    assert list(metric.ranked()) == ["cat"] and found.total == 2
    assert dict(zip(found.scores.tolist(), found.right.tolist(), strict=True)) == {
        0.25: True, 0.5: False,  # the one on the difficult cat is neither
    }  # fmt: skip


def test_labels_are_ranked_by_image():
    metric = MultiLabel(classes=["cat", "dog"])
    true = objects((0, 0, 1, 0), (1, 0, 1, 0), ignore=torch.tensor([False, True]))
    metric.update(objects((0, 0, 0.5, 0), (1, 0, 0.9, 0), (2, 0, 0.25, 0)), true, metas(3))
    (found,) = metric.ranked().values()
    assert found.scores.tolist() == [0.5, 0.25] and found.right.tolist() == [True, False]
    assert found.total == 1


def test_numbers_of_a_sweep_are_numbers():
    assert [_to_number(text) for text in ("1e-3", "adam", "[1,2]", "")] == [
        0.001,
        "adam",
        "[1,2]",
        "",
    ]
