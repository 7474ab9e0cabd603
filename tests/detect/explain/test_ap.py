"""`topic=ap`: average precisions by hand, by plain sums, and by the metrics of the project."""

import numpy as np
import pytest

from detect.explain import ap
from engine.errors import UserError

SCORES = [0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
VERDICTS = ["TP", "FP", "TP", "FP", "FP", "TP", "FP"]


def test_the_table_by_hand():
    rows = ap.explain(SCORES, VERDICTS, 4).rows
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    assert columns["TP"] == [1, 1, 2, 2, 2, 3, 3] and columns["FP"] == [0, 1, 1, 2, 3, 3, 4]
    assert columns["precision"] == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2, 2 / 5, 1 / 2, 3 / 7])
    assert columns["recall"] == [0.25, 0.25, 0.5, 0.5, 0.5, 0.75, 0.75]
    assert columns["envelope"] == pytest.approx([1, 2 / 3, 2 / 3, 1 / 2, 1 / 2, 1 / 2, 3 / 7])


def test_the_three_rules_by_hand():
    _, recall, envelope = ap.curve([v == "TP" for v in VERDICTS], 4)
    assert ap.area(recall, envelope) == pytest.approx((1 + 2 / 3 + 1 / 2) / 4)
    eleven, hundred = (ap.readings(recall, envelope, n) for n in (11, 101))
    assert sum(eleven) / 11 == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 1 / 2) / 11)
    assert sum(hundred) / 101 == pytest.approx((26 * 1 + 25 * 2 / 3 + 25 * 1 / 2) / 101)


def test_the_lines_have_the_sums():
    lines = ap.explain(SCORES, VERDICTS, 4).lines
    assert lines[0] == "FN: 1 of 4 objects"
    assert "(1 x 1 + 1 x 0.6667 + 1 x 0.5) / 4 = 0.541667; the metric: 0.541667" in lines[1]
    assert (
        "(3 x 1 + 3 x 0.6667 + 2 x 0.5 + 3 x 0) / 11 = 0.545455; the metric: 0.545455" in lines[2]
    )
    assert lines[3].endswith("0.546205; the metric: 0.546205")


@pytest.mark.parametrize("seed", range(8))
def test_any_verdicts_have_the_average_precisions_of_the_metrics(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 40))
    hits = (random.random(count) < 0.5).tolist()
    objects = max(sum(hits) + int(random.integers(0, 4)), 1)
    scores = np.sort(random.random(count))[::-1].tolist()
    _, recall, envelope = ap.curve(hits, objects)
    metric = ap.judged(scores, hits, objects)
    by_hand = [ap.area(recall, envelope)]
    by_hand += [sum(ap.readings(recall, envelope, n)) / n for n in (11, 101)]
    assert by_hand == pytest.approx([*metric.values()], abs=1e-9)


def test_ranks_go_by_score():
    rows = ap.explain([0.2, 0.9], ["FP", "TP"], 1).rows
    assert [(row["score"], row["verdict"]) for row in rows] == [(0.9, "TP"), (0.2, "FP")]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"scores": [0.5]}, "got 7 of 1 scores, expected one a score"),
     ({"verdicts": ["TP"] * 6 + ["tp"]}, "got tp, expected TP or FP"),
     ({"objects": 2}, "objects=2: expected at least one a TP, 3")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        ap.explain(**{"scores": SCORES, "verdicts": VERDICTS, "objects": 4} | change)
