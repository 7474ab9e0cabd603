"""What a detector and a classifier get right and wrong, against counts by hand and pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from classify.diagnosis.many_labels import diagnose_many_labels
from classify.diagnosis.one_label import diagnose_one_label, differences_one_label
from detect.diagnosis.diagnose import diagnose, differences
from detect.diagnosis.matched import Matched
from detect.diagnosis.single import diagnose_single
from engine.record import ObjectTable
from engine.report.anchors import best_iou, in_input
from engine.report.anchors import table as anchor_table
from engine.report.diagnosis import Chart, Table, best_threshold, counts_at

CLASSES = ["cat", "dog"]
CAT, DOG = 0, 1
TRUE = [  # image, label, x, y, w, h, ignored
    (0, CAT, 10, 10, 20, 20, 0),
    (0, DOG, 60, 10, 40, 40, 0),
    (1, CAT, 10, 10, 40, 20, 0),
    (2, DOG, 0, 0, 50, 50, 1),
]
FOUND = [  # image, label, x, y, w, h, score: what it is
    (0, CAT, 10, 10, 20, 20, 0.9),  # right
    (0, CAT, 11, 10, 20, 20, 0.5),  # found twice
    (0, CAT, 60, 10, 40, 40, 0.8),  # a dog: wrong class, IoU 1
    (0, DOG, 80, 10, 40, 40, 0.7),  # half of the dog: IoU 20 / 60, badly placed
    (1, DOG, 200, 200, 9, 9, 0.6),  # invented
    (2, DOG, 0, 0, 50, 50, 0.9),  # on an ignored object: does not count
]


def table(rows, true=False):
    columns = np.array(rows, float).reshape(-1, 7)
    image, label = columns[:, :2].T.astype(int)
    boxes, last = columns[:, 2:6], columns[:, 6]
    scores, ignore = (np.ones(len(rows)), last > 0) if true else (last, np.zeros(len(rows), bool))
    return ObjectTable(image, label, boxes, scores, boxes[:, 2:].prod(1), ignore)


@pytest.fixture(scope="module")
def found():
    return diagnose(CLASSES, table(FOUND), table(TRUE, true=True), 3, {"AP/cat": 0.25})


def named(found, title):
    return next(panel for panel in found.panels if panel.title == title)


def test_right_and_wrong_are_counted_at_every_score(found):
    live = found.live
    at = live.scores.index(pytest.approx(0.7))
    assert live.total.tolist() == [2, 1] and live.right[at].tolist() == [1, 0]
    assert live.wrong[at].tolist() == [1, 1]  # the cat on the dog; the badly placed dog
    assert live.wrong[0].tolist() == [2, 2] and live.right[-1].tolist() == [0, 0]
    assert live.best == pytest.approx(0.9)  # F1 of one right and none wrong: 2 / (1 + 3)
    assert live.f1()[at].tolist() == pytest.approx([2 / 4, 0])


def test_the_confusion_has_what_was_taken_for_what(found):
    cells = {(i, j): n for i, j, n in found.live.confusion[0]}
    assert found.live.rows == ["cat", "dog", "invented"]
    assert found.live.columns == ["cat", "dog", "missed"]
    assert cells[0, 0] == 1 and cells[1, 0] == 1  # a cat; a dog called cat
    assert cells[0, 2] == 1  # the cat of image 1, that nothing found
    assert "background" not in str(found)


@pytest.mark.parametrize("seed", range(3))
def test_the_confusion_is_hotcocos_at_every_score(seed):
    rng = np.random.default_rng(seed)
    true = [(i, rng.integers(3), *rng.uniform(0, 30, 2), *rng.uniform(5, 30, 2), 0)
            for i in rng.integers(0, 12, 60)]  # fmt: skip
    rows = [(t[0], rng.choice([t[1], rng.integers(3)]), *(np.array(t[2:6]) + rng.normal(0, 2, 4)),
             round(rng.uniform(), 2)) for t in true for _ in range(3)]  # fmt: skip
    matched = Matched(["a", "b", "c"], table(rows), table(true, true=True), 12)
    for score, cells in zip(matched.thresholds, matched.live.confusion, strict=True):
        least = float(score) or None
        wanted = matched.evaluator.confusion_matrix(iou_thr=0.5, min_score=least)["matrix"]
        found = np.zeros_like(wanted)
        for row, column, count in cells:
            found[row, column] = count
        assert (found == wanted).all()


def test_marks_say_what_each_object_and_each_detection_is():
    rows = [(*row[:6], row[6] + 0.05) for row in FOUND]
    found = diagnose(CLASSES, table(rows), table(TRUE, true=True), 3, {})
    found.marks.__self__.score = 0.1  # all are shown
    marks = found.marks(0)
    assert [(m.kind, m.label) for m in marks if m.truth] == [("right", "cat"), ("missed", "dog")]
    kinds = {m.text: (m.kind, m.why) for m in marks if not m.truth}
    assert kinds == {
        "cat 0.95": ("right", ""),
        "cat 0.55": ("invented", "found twice (IoU 0.90)"),
        "cat 0.85": ("wrong class", "IoU 1.00"),
        "dog 0.75": ("badly placed", "IoU 0.33"),
    }
    assert found.reason(0) == "1 wrong class, 1 badly placed, 1 invented, 1 missed"
    assert found.reason(1) == "1 invented, 1 missed" and found.reason(2) == "all 0 right"
    assert [m.text for m in found.marks(2)] == ["dog (does not count)"]


def test_the_worst_image_is_the_one_with_the_most_errors_at_the_best_score(found):
    assert found.badness.tolist() == [1, 1, 0]  # at .9 only the right cat is left
    assert "small" in found.advice or "AP50" in found.advice


def test_the_table_of_classes_has_the_metrics_own_number_and_hotcocos(found):
    classes = named(found, "Classes")
    row = dict(zip(classes.columns, classes.rows[0], strict=True))
    assert row["class"] == "cat" and row["objects"] == 2 and row["images"] == 2
    assert row["AP"] == 0.25 and row["AP50"] == pytest.approx(51 / 101)  # recall .5 at precision 1


def coco(predicted, true, images):
    """pycocotools' AP50 of each class, and its AP by area of all."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i + 1} for i in range(images)],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)],
        "annotations": [
            {"id": n + 1, "image_id": int(true.image[n]) + 1, "bbox": true.boxes[n].tolist(),
             "category_id": int(true.labels[n]) + 1, "area": float(true.area[n]),
             "iscrowd": int(true.ignore[n])}
            for n in range(len(true.image))
        ],
    }  # fmt: skip
    rows = np.column_stack([predicted.image + 1, predicted.boxes, predicted.scores,
                            predicted.labels + 1])  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(rows), "bbox")
        judge.evaluate()
        judge.accumulate()
    return judge.eval["precision"]  # [T, R, K, A, M]


@pytest.mark.parametrize("seed", range(3))
def test_numbers_equal_pycocotools(seed):
    rng = np.random.default_rng(seed)
    size = rng.uniform(8, 150, (60, 2))
    true = [(n % 20, rng.integers(2), *rng.uniform(0, 200, 2), *size[n], n % 17 == 0)
            for n in range(60)]  # fmt: skip
    predicted = [(*row[:2], *(np.array(row[2:6]) + rng.normal(0, 6, 4)).clip(1), rng.random())
                 for row in true for _ in range(2)]  # fmt: skip
    tables = table(predicted), table(true, true=True)
    found, precision = diagnose(CLASSES, *tables, 20, {}), coco(*tables, 20)
    classes, sizes = named(found, "Classes"), named(found, "Size")
    for k in range(2):
        row = dict(zip(classes.columns, classes.rows[k], strict=True))
        assert row["AP50"] == pytest.approx(precision[0, :, k, 0, -1].mean(), abs=1e-12)
        assert row["COCO AP"] == pytest.approx(precision[:, :, k, 0, -1].mean(), abs=1e-12)
    for i, row in enumerate(sizes.rows, 1):
        part = precision[..., i, -1]
        expected = part[part > -1].mean() if (part > -1).any() else None
        assert row[2] == (expected if expected is None else pytest.approx(expected, abs=1e-12))
    aspects = named(found, "Aspect")
    assert sum(row[1] for row in aspects.rows) == sum(not row[-1] for row in true)


def test_scores_in_percent_move_the_thresholds_and_are_no_probabilities():
    percent = table([(*row[:6], 100 * row[6]) for row in FOUND])
    found = diagnose(CLASSES, percent, table(TRUE, true=True), 3, {})
    assert found.live.scores[-1] == 90 and found.live.right[-1].tolist() == [1, 0]
    assert found.live.best == 90  # as .9 of scores up to 1
    assert "Calibration" not in [panel.title for panel in found.panels]


def test_what_is_invented_is_counted_apart_from_what_is_badly_placed():
    true = [(i, CAT, 10, 10, 40, 40, 0) for i in range(8)]
    rows = [(i, CAT, 10, 10, 40, 40, 0.9) for i in range(8)]
    rows += [(i, DOG, 200, 200, 30, 30, 0.95) for i in range(3)]  # nothing is there
    rows += [(3, CAT, 35, 10, 40, 40, 0.95)]  # IoU 15 / 65
    found = diagnose(CLASSES, table(rows), table(true, true=True), 8, {})
    assert "objects invented" in found.advice or "badly placed" in found.advice
    kinds = [m.kind for i in range(8) for m in found.marks(i) if not m.truth]
    assert (kinds.count("invented"), kinds.count("badly placed")) == (3, 1)
    assert sum(n for i, _, n in found.live.confusion[0] if i == 2) == 4  # hotcoco's row has both


def test_nothing_predicted_and_nothing_to_find():
    none, true = table([]), table(TRUE, true=True)
    found = diagnose(CLASSES, none, true, 3, {})
    assert found.advice == "nothing is predicted at all." and found.live.best == 0
    assert found.badness.tolist() == [2, 1, 0]
    empty = diagnose(CLASSES, none, none, 3, {})
    assert empty.advice.startswith("there is no object") and empty.badness.tolist() == [0, 0, 0]


def test_two_runs_differ_by_more_than_chance_or_not():
    true = table([(i, CAT, 10, 10, 30, 30, 0) for i in range(40)], true=True)
    good = table([(i, CAT, 10, 10, 30, 30, 0.9) for i in range(40)])
    poor = table([(i, CAT, 10 + 25 * (i % 2), 10, 30, 30, 0.9) for i in range(40)])
    ap = next(d for d in differences(CLASSES, poor, good, true, 40) if d.name == "AP")
    assert ap.value > 0.4 and 0 < ap.low <= ap.value <= ap.high
    same = next(d for d in differences(CLASSES, good, good, true, 40) if d.name == "AP")
    assert (same.value, same.low, same.high) == (0, 0, 0)


ONE = [(0, CAT), (1, CAT), (2, DOG), (3, DOG)]
SCORES = [(0.9, 0.1), (0.3, 0.7), (0.95, 0.05), (0.2, 0.8)]  # right, wrong, wrong and sure, right


def whole(rows):
    return table([(i, k, 0, 0, 1, 1, score) for i, k, score in rows])


def one_label():
    return (
        whole([(i, k, s) for i, pair in enumerate(SCORES) for k, s in enumerate(pair)]),
        table([(i, k, 0, 0, 1, 1, 0) for i, k in ONE], true=True),
    )


def test_a_classifiers_confusion_and_what_to_look_at():
    found = diagnose_one_label(CLASSES, *one_label(), 4, {})
    assert {(i, j): n for i, j, n in found.live.confusion[0]} == {
        (0, 0): 1, (0, 1): 1, (1, 0): 1, (1, 1): 1}  # fmt: skip
    at = found.live.scores.index(pytest.approx(0.86))
    assert {(i, j): n for i, j, n in found.live.confusion[at]} == {
        (0, 0): 1, (0, 2): 1, (1, 0): 1, (1, 2): 1}  # fmt: skip
    assert found.badness.tolist() == [0, 0.7, 0.95, 0]
    assert [(row["image"], row["annotated"], row["predicted"]) for row in found.suspects] == [
        (2, "dog", "cat")]  # fmt: skip
    assert (
        found.reason(1) == "is cat (0.30), called dog 0.70" and found.reason(0) == "right: cat 0.90"
    )
    # |.9 - 1|, |.95 - 0| in one bin; .7 - 0; .8 - 1: (|1.85 / 2 - .5| * 2 + .7 + .2) / 4
    assert "ECE 0.438" in named(found, "Calibration").note


def test_two_classifiers_differ():
    predicted, true = one_label()
    right = whole([(i, k, 0.9) for i, k in ONE])
    (found,) = differences_one_label(CLASSES, predicted, right, true, 4)
    assert found.value == 0.5 and 0 <= found.low <= 0.5 <= found.high <= 1


def test_many_labels_name_what_is_missed_and_invented():
    predicted = whole([(0, CAT, 0.9), (0, DOG, 0.8), (1, DOG, 0.1), (1, CAT, 0.2)])
    true = table([(0, CAT, 0, 0, 1, 1, 0), (1, DOG, 0, 0, 1, 1, 0)], true=True)
    found = diagnose_many_labels(CLASSES, predicted, true, 2, {"AP/cat": 1.0, "AP/dog": 0.5})
    assert found.live.best == pytest.approx(0.9)
    assert found.reason(1) == "missed: dog" and found.reason(0) == "all right"
    assert found.advice == "The class of lowest AP is dog (0.500)."


def test_one_box_an_image_is_judged_against_the_largest_object():
    predicted = table([(0, CAT, 61, 10, 40, 40, 0.6), (0, DOG, 10, 10, 20, 20, 0.5),
                       (1, CAT, 10, 10, 40, 20, 0.9)])  # fmt: skip
    tables = predicted, table(TRUE, true=True)
    found = diagnose_single(CLASSES, *tables, 3, {})
    assert found.live.total.tolist() == [1, 1]  # the small cat of image 0 does not count
    assert found.live.right[0].tolist() == [1, 0] and found.live.wrong[0].tolist() == [1, 0]
    bare = diagnose_single(None, *tables, 3, {})
    assert bare.live.names == ["object"] and bare.live.right[0].tolist() == [2]


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), max_size=30))
@settings(max_examples=50, deadline=None)
def test_counts_are_of_all_scores_that_reach_the_threshold(pairs):
    scores, labels = np.array([s for s, _ in pairs]), np.array([k for _, k in pairs], int)
    thresholds = np.linspace(0, 1, 11)
    counts = counts_at(thresholds, scores, labels, 2)
    for i, threshold in enumerate(thresholds):
        for k in range(2):
            assert counts[i, k] == ((scores >= threshold) & (labels == k)).sum()


def test_of_equal_f1_the_highest_threshold_is_best():
    right, wrong = np.array([[2], [2], [1]]), np.array([[0], [0], [0]])
    assert best_threshold(np.array([0.0, 0.5, 1.0]), right, wrong, np.array([2])) == 0.5


def test_anchors_that_reach_the_objects_of_a_scaled_image():
    true = table([(0, CAT, 0, 0, 20, 20, 0), (0, DOG, 40, 0, 10, 10, 0)], true=True)
    matrices = np.array([[[2.0, 0, 1], [0, 2.0, 0]]])
    boxes = in_input(true.boxes, matrices[true.image])
    assert boxes.tolist() == [[1, 0, 41, 40], [81, 0, 101, 20]]
    slots = np.array([[1.0, 0, 41, 40], [0, 0, 10, 10]])
    assert best_iou(boxes, slots).tolist() == [1, 0]
    found = anchor_table(CLASSES, true, matrices, slots)
    rows = {row[0]: row[1:] for row in found.rows}
    assert rows["cat"] == (1, 1, 1) and rows["dog"] == (1, 0, 0)
    assert "50.0% of 2 objects have" in found.note


def test_every_panel_is_a_table_or_a_chart(found):
    assert {type(panel) for panel in found.panels} == {Table, Chart}
