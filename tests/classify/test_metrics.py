import numpy as np
import pytest
import torch

from classify.metrics.confusion import draw_confusion
from classify.metrics.multi_label import MultiLabel
from classify.metrics.top_k import TopK
from engine.errors import UserError
from engine.record import Meta
from engine.structures import Objects

CLASSES = list("abcdef")


def whole(labels, image, scores=None, ignore=None):
    return Objects(
        torch.zeros(len(labels), 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(image, dtype=torch.int64),
        None if scores is None else torch.tensor(scores),
        None if ignore is None else torch.tensor(ignore),
    )


def metas(count):
    return [Meta(i, i, f"images/{i}.jpg", (1, 1), np.eye(2, 3)) for i in range(count)]


def run(predicted, true, count, classes=CLASSES, **options):
    metric = TopK(classes=classes, **options)
    metric.update(predicted, true, metas(count))
    return metric.compute()


def top(*arguments, **options):
    """The accuracies alone."""
    return {k: v for k, v in run(*arguments, **options).items() if k.startswith("top")}


def test_four_images_by_hand():
    # Best first: 0: b a, truth b, rank 0. 1: c a b, truth b, rank 2. 2: a, truth f, not named.
    # 3: nothing predicted. Top-1 1/4, top-2 1/4, top-3 2/4.
    predicted = whole([0, 1, 1, 2, 0, 0], [0, 0, 1, 1, 1, 2], [0.2, 0.8, 0.1, 0.7, 0.2, 1.0])
    true = whole([1, 1, 5, 0], [0, 1, 2, 3])
    assert top(predicted, true, 4, k=(1, 2, 3)) == {"top1": 0.25, "top2": 0.25, "top3": 0.5}


def test_images_may_come_in_any_order():
    # The classes of image 1 stand before those of image 0, the truth likewise.
    predicted = whole([2, 3, 0, 1], [1, 1, 0, 0], [0.1, 0.9, 0.6, 0.4])
    assert top(predicted, whole([3, 1], [1, 0]), 2, k=(1, 2)) == {"top1": 0.5, "top2": 1}


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_of_equal_scores_the_lower_class_ranks_first_in_any_order(order):
    # a, b and c with scores .4, .4, .2: ranks 0, 1, 2
    scores = [[0.4, 0.4, 0.2][k] for k in order]
    for label, found in ((0, [1, 1]), (1, [0, 1]), (2, [0, 0])):
        predicted = whole(order, [0, 0, 0], scores)
        assert list(top(predicted, whole([label], [0]), 1, k=(1, 2)).values()) == found


def test_equals_topk_of_the_scores():
    scores = torch.rand(50, 6, generator=torch.Generator().manual_seed(0))
    true = torch.arange(50) % 6
    best = (scores.topk(5).indices == true[:, None]).float()
    predicted = whole(list(range(6)) * 50, np.repeat(range(50), 6), scores.flatten().tolist())
    numbers = top(predicted, whole(true.tolist(), range(50)), 50)
    expected = {"top1": float(best[:, 0].mean()), "top5": float(best.sum(1).mean())}
    assert numbers == pytest.approx(expected)


def test_updates_add_up_and_reset_forgets():
    metric = TopK(classes=CLASSES)
    metric.update(whole([0], [0]), whole([0], [0]), metas(1))
    metric.update(whole([1], [0]), whole([0], [0]), metas(1))
    numbers = metric.compute()
    assert (numbers["top1"], numbers["top5"], numbers["recall"]) == (0.5, 0.5, 0.5)
    metric.reset()
    assert metric.compute() == dict.fromkeys(["top1", "top5", "precision", "recall", "f1"], 0)


def test_ignored_images_do_not_count():
    true = whole([0, 1], [0, 1], ignore=[False, True])
    assert top(whole([0, 0], [0, 1]), true, 2) == {"top1": 1, "top5": 1}


def test_k_above_the_number_of_classes_is_left_out():
    assert list(top(whole([0], [0]), whole([0], [0]), 1, classes=["a", "b"])) == ["top1"]
    assert list(top(whole([0], [0]), whole([0], [0]), 1, k=[2])) == ["top1", "top2"]


@pytest.mark.parametrize(("image", "count"), [([0, 1, 1, 1], 3), ([0], 0)])
def test_two_objects_or_none_name_the_image(image, count):
    with pytest.raises(UserError, match=rf"images/1\.jpg has {count}: use a metric for det"):
        run(whole([0], [0]), whole([0] * len(image), image), 2)


def test_a_score_that_is_none_names_the_image():
    with pytest.raises(UserError, match=r"images/1\.jpg: got"):
        run(whole([0, 0], [0, 1], [1, float("nan")]), whole([0, 0], [0, 1]), 2)


def test_wrong_k_is_refused():
    with pytest.raises(UserError, match=r"k: got \[0, 5\], expected whole numbers from 1"):
        TopK(classes=CLASSES, k=(0, 5))


def test_the_protocol_says_the_rules():
    assert (
        TopK(classes=CLASSES).protocol == "top-1 and top-5 accuracy, one label an image, one crop"
    )


def best(true, predicted, classes="abc", **options):
    """The numbers where each image names one class."""
    count = len(true)
    objects = whole(predicted, range(count)), whole(true, range(count))
    return run(*objects, count, classes=list(classes), **options)


def test_precision_recall_and_f1_by_hand():
    # Truth a a a b b, best classes a a b b c. a: 2 of 2 right, 2 of 3 found, F1 2*2/(2+3).
    # b: 1 of 2, 1 of 2, 2*1/(2+2). c and d have no image, so no number and no part in the means.
    numbers = best([0, 0, 0, 1, 1], [0, 0, 1, 1, 2], classes="abcd")
    expected = {
        "precision/a": 1, "precision/b": 0.5, "precision": 0.75,
        "recall/a": 2 / 3, "recall/b": 0.5, "recall": 7 / 12,
        "f1/a": 0.8, "f1/b": 0.5, "f1": 0.65,
    }  # fmt: skip
    assert {k: v for k, v in numbers.items() if k != "top1"} == pytest.approx(expected)


def test_a_class_never_predicted_has_no_precision():
    # a: 1 of 2 predictions right; b: never predicted, 0 and not NaN.
    numbers = best([0, 1], [0, 0])
    assert (numbers["precision/a"], numbers["precision/b"], numbers["f1/b"]) == (0.5, 0, 0)
    assert numbers["precision"] == 0.25


def test_an_image_that_names_nothing_is_found_by_no_class():
    numbers = run(whole([0], [0]), whole([0, 0], [0, 1]), 2, classes=["a", "b"])
    assert (numbers["precision/a"], numbers["recall/a"]) == (1, 0.5)


def test_classes_need_not_be_listed_one_by_one():
    assert set(best([0], [0], per_class=False)) == {"top1", "precision", "recall", "f1"}


def test_entropy_by_hand():
    # Scores .25 of each of four classes: ln 4. Scores .2 .2 0 0, shares .5 .5 0 0: ln 2.
    predicted = whole(
        [0, 1, 2, 3] * 2, [0] * 4 + [1] * 4, [0.25, 0.25, 0.25, 0.25, 0.2, 0.2, 0.0, 0.0]
    )
    numbers = run(predicted, whole([0, 0], [0, 1]), 2, classes=list("abcd"))
    assert numbers["entropy"] == pytest.approx((np.log(4) + np.log(2)) / 2)
    ignored = whole([0, 0], [0, 1], ignore=[False, True])
    assert run(predicted, ignored, 2, classes=list("abcd"))["entropy"] == pytest.approx(np.log(4))


def test_no_entropy_where_an_image_does_not_name_every_class():
    metric = TopK(classes=["a", "b"])
    metric.update(whole([0, 1], [0, 0], [0.5, 0.5]), whole([0], [0]), metas(1))
    assert "entropy" in metric.compute()
    metric.update(whole([0], [0]), whole([0], [0]), metas(1))
    metric.update(whole([0, 1], [0, 0], [0.5, 0.5]), whole([0], [0]), metas(1))
    assert "entropy" not in metric.compute()


def test_curves_of_each_class_against_the_rest_by_hand():
    # Three images of a, b, a, the last ignored, and one of b that is said to be a alone.
    predicted = whole(
        [0, 1, 1, 0, 0, 1, 0], [0, 0, 1, 1, 2, 2, 3], [0.75, 0.25, 0.5, 0.5, 1.0, 0.0, 0.25]
    )
    true = whole([0, 1, 0, 1], [0, 1, 2, 3], ignore=[False, False, True, False])
    metric = TopK(classes=["a", "b", "c"])
    metric.update(predicted, true, metas(4))
    found = {name: (s.tolist(), r.tolist(), n) for name, (s, r, n) in metric.ranked().items()}
    assert found == {  # no image has a c
        "a": ([0.75, 0.5, 0.25], [True, False, False], 1),
        "b": ([0.25, 0.5, 0.0], [False, True, True], 2),
    }


def test_more_than_a_hundred_classes_have_no_curves_and_keep_no_scores():
    for count, curves in ((100, ["0"]), (101, [])):
        metric = TopK(classes=list(map(str, range(count))))
        metric.update(whole([0], [0], [1.0]), whole([0], [0]), metas(1))
        assert list(metric.ranked()) == curves
        assert sum(map(len, metric.scores)) == len(curves)


def cell(image, row, column, size):
    """The colour in a corner of a cell, beside its count."""
    inch = 0.34 * 100
    start = image.shape[1] - 10 - size * inch  # 10 pixels right of the matrix, and above
    return image[int(10 + row * inch) + 4, int(start + column * inch) + 4].astype(int)


def test_the_confusion_matrix_shows_truth_by_row():
    # Truth a: predicted a, b, b, b. Truth b: nothing. Truth c: c.
    metric = TopK(classes=["$a", "b_1$", "a very long name, longer than its place"])
    predicted, true = whole([0, 1, 1, 1, 2], range(5)), whole([0, 0, 0, 0, 2], range(5))
    metric.update(predicted, true, metas(5))
    image = metric.images()["confusion"]
    assert image.dtype == np.uint8 and image.shape[2] == 3
    dark = [[255 - cell(image, r, c, 3)[0] for c in range(3)] for r in range(3)]
    assert dark[0][1] > dark[0][0] + 50 > dark[0][2] + 50  # 3/4, 1/4, 0 of the row
    assert dark[2][2] > dark[0][1]  # all of its row
    assert dark[1][0] < 20 and dark[0][2] < 20


def test_counts_stand_in_the_cells_of_few_classes_only():
    def colours(size, columns):
        image = draw_confusion(np.eye(size, dtype=int) * 1000, ["x"] * size)
        return len(np.unique(image[12:40, columns].reshape(-1, 3), axis=0))

    left, right = slice(192, 220), slice(-41, -13)  # the first row's first cell and its last
    assert (colours(30, right), colours(31, right), colours(31, left)) == (1, 1, 1)
    assert colours(30, left) > 5  # letters


def test_a_thousand_classes_can_be_drawn():
    image = draw_confusion(np.eye(1000, dtype=int), [f"class {i}" for i in range(1000)])
    assert max(image.shape) < 2500


@pytest.mark.parametrize("name", ["\udcff", "a\nb", "\x1b[31m", "北", "$a_1$"])
def test_a_confusion_matrix_takes_any_name_of_a_class(name):
    # warnings are errors here: of a letter that the font lacks, matplotlib warns
    assert draw_confusion(np.eye(2, dtype=int), [name, "x"]).shape[2] == 3


def labels(predicted, true, count, classes="abc", **options):
    metric = MultiLabel(classes=list(classes), **options)
    metric.update(predicted, true, metas(count))
    return metric.compute()


# Four images. Scores of a: .9 .8 .7 .1, it is in 0 and 2. Of b: .6 in image 1, which has it.
PREDICTED = whole([0, 0, 0, 0, 1], [0, 1, 2, 3, 1], [0.9, 0.8, 0.7, 0.1, 0.6])


def test_multi_label_by_hand():
    # a: ranks right, wrong, right, wrong: precisions 1, 1/2, 2/3, 2/4 -> AP (1 + 2/3) / 2 = 5/6.
    # b: found first, AP 1. c: in no image, no AP. mAP (5/6 + 1) / 2 = 11/12.
    # Decisions at .5: a right, wrong, right, right; b and c all right: 11 of 12.
    true = whole([0, 1, 0], [0, 1, 2])
    numbers = labels(PREDICTED, true, 4)
    expected = {"mAP": 11 / 12, "accuracy": 11 / 12, "AP/a": 5 / 6, "AP/b": 1}
    assert numbers == pytest.approx(expected)
    # Recalls 0 to .5 at precision 1, .6 to 1 at 2/3: (6 + 5 * 2/3) / 11.
    assert labels(PREDICTED, true, 4, rule="11_point")["AP/a"] == pytest.approx((6 + 10 / 3) / 11)
    assert labels(PREDICTED, true, 4, threshold=0.75)["accuracy"] == pytest.approx(9 / 12)


def test_ignored_classes_leave_their_image_out():
    # Without image 1, a: right, right, wrong: AP 1; 11 pairs, all right. An object that counts
    # beside an ignored one of its class brings the image back: a is right everywhere but in 1.
    true = whole([0, 1, 0, 0], [0, 1, 2, 1], ignore=[False, False, False, True])
    assert labels(PREDICTED, true, 4) == pytest.approx(
        {"mAP": 1, "accuracy": 1, "AP/a": 1, "AP/b": 1}
    )
    again = whole([0, 1, 0, 0, 0], [0, 1, 2, 1, 1], ignore=[False, False, False, True, False])
    assert labels(PREDICTED, again, 4)["AP/a"] == 1
    only = whole([0], [0], ignore=[True])
    assert labels(PREDICTED, only, 4)["mAP"] == 0


def test_a_class_that_is_not_named_scores_0():
    # b is in images 0 and 3, named in neither. All four rank alike: precision 2/4 for both.
    assert labels(whole([0], [0]), whole([1, 1], [0, 3]), 4)["AP/b"] == 0.5


@pytest.mark.parametrize("present", [0, 1, 2])
def test_equal_scores_do_not_depend_on_the_order_of_the_images(present):
    predicted = whole([0, 0, 0], [0, 1, 2], [0.3, 0.3, 0.3])
    assert labels(predicted, whole([0], [present]), 3)["AP/a"] == pytest.approx(1 / 3)


def slow_average_precision(pairs, rule):
    """From the definition: the curve at each threshold, its area under the best to the right."""
    total = sum(right for _, right in pairs)
    curve = []
    for threshold in {score for score, _ in pairs}:
        said = [right for score, right in pairs if score >= threshold]
        curve.append((sum(said) / total, sum(said) / len(said)))

    def best(recall):
        return max((p for r, p in curve if r >= recall), default=0)

    if rule == "11_point":  # in the floats of the published tools
        return sum(best(recall) for recall in np.linspace(0, 1, 11)) / 11
    return sum(best(i / total) for i in range(1, total + 1)) / total


@pytest.mark.parametrize("rule", ["all_point", "11_point"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_slow_definition(seed, rule):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, (40, 6)) / 12 + 0.001  # with many ties
    state = rng.choice([-1, 0, 1], (40, 6), p=[0.6, 0.1, 0.3])
    image, label = np.nonzero(scores)
    predicted = whole(label.tolist(), image.tolist(), scores[image, label].astype("f4").tolist())
    image, label = np.nonzero(state >= 0)
    ignore = (state[image, label] == 0).tolist()
    metric = MultiLabel(classes=CLASSES, rule=rule)
    for low in range(0, 40, 8):  # in batches
        part = [o.select((o.batch_index >= low) & (o.batch_index < low + 8)) for o in
                (predicted, whole(label.tolist(), image.tolist(), ignore=ignore))]  # fmt: skip
        for objects in part:
            objects.batch_index -= low
        metric.update(*part, metas(8))
    numbers = metric.compute()
    expected = [
        slow_average_precision(
            [(s, t == 1) for s, t in zip(scores[:, k], state[:, k], strict=True) if t], rule
        )
        for k in range(6)
    ]
    assert [numbers[f"AP/{name}"] for name in CLASSES] == pytest.approx(expected)
    assert numbers["mAP"] == pytest.approx(np.mean(expected))
    right = [(s >= 0.5) == (t == 1) for s, t in zip(scores.flat, state.flat, strict=True) if t]
    assert numbers["accuracy"] == pytest.approx(np.mean(right))


def test_multi_label_forgets_and_says_its_rules():
    metric = MultiLabel(classes=CLASSES)
    metric.update(PREDICTED, whole([0], [0]), metas(4))
    metric.reset()
    assert metric.compute() == {"mAP": 0, "accuracy": 0}
    assert "VOC classification AP, all-point rule" in metric.protocol
    assert MultiLabel.many_labels and not TopK.many_labels


def test_multi_label_refuses_what_makes_no_sense():
    with pytest.raises(UserError, match=r"rule: got all-point, expected .*did you mean 'all_p"):
        MultiLabel(classes=CLASSES, rule="all-point")
    with pytest.raises(UserError, match="threshold: got 50, expected a score between 0 and 1"):
        MultiLabel(classes=CLASSES, threshold=50)
    with pytest.raises(UserError, match=r"images/1\.jpg: got"):
        labels(whole([0], [1], [float("nan")]), whole([], []), 2)


def test_of_many_classes_no_matrix_is_drawn_and_numbers_need_no_matrix(monkeypatch):
    metric = TopK(classes=[f"class {i}" for i in range(20_000)])  # K * K of them takes 3.2 GB
    monkeypatch.setattr(TopK, "_confusion", None)
    metric.true, metric.best = [np.array([7, 7, 9])], [np.array([7, 9, -1])]
    metric.ranks, metric.entropy = [np.array([0, 1, np.inf])], np.nan
    numbers = metric.compute()
    assert metric.images() == {}
    assert (numbers["precision"], numbers["recall"]) == (0.5, 0.25)  # of 7: 1, 1/2; of 9: 0, 0
    assert numbers["f1"] == pytest.approx(1 / 3)  # of 7: 2/3
