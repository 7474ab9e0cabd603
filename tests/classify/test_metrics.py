import numpy as np
import pytest
import torch

from classify.metrics import TopK
from engine.errors import UserError
from engine.structures import Meta, Objects

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
    return [Meta(i, i, f"pictures/{i}.jpg", (1, 1), np.eye(2, 3)) for i in range(count)]


def run(predicted, true, count, classes=CLASSES, **options):
    metric = TopK(classes=classes, **options)
    metric.update(predicted, true, metas(count))
    return metric.compute()


def test_four_pictures_by_hand():
    # Best first: 0: b a, truth b, rank 0. 1: c a b, truth b, rank 2. 2: a, truth f, not named.
    # 3: nothing predicted. Top-1 1/4, top-2 1/4, top-3 2/4.
    predicted = whole([0, 1, 1, 2, 0, 0], [0, 0, 1, 1, 1, 2], [0.2, 0.8, 0.1, 0.7, 0.2, 1.0])
    true = whole([1, 1, 5, 0], [0, 1, 2, 3])
    assert run(predicted, true, 4, k=(1, 2, 3)) == {"top1": 0.25, "top2": 0.25, "top3": 0.5}


def test_pictures_may_come_in_any_order():
    # The classes of picture 1 stand before those of picture 0, the truth likewise.
    predicted = whole([2, 3, 0, 1], [1, 1, 0, 0], [0.1, 0.9, 0.6, 0.4])
    assert run(predicted, whole([3, 1], [1, 0]), 2, k=(1, 2)) == {"top1": 0.5, "top2": 1}


def test_equals_topk_of_the_scores():
    scores = torch.rand(50, 6, generator=torch.Generator().manual_seed(0))
    true = torch.arange(50) % 6
    best = (scores.topk(5).indices == true[:, None]).float()
    predicted = whole(list(range(6)) * 50, np.repeat(range(50), 6), scores.flatten().tolist())
    numbers = run(predicted, whole(true.tolist(), range(50)), 50)
    expected = {"top1": float(best[:, 0].mean()), "top5": float(best.sum(1).mean())}
    assert numbers == pytest.approx(expected)


def test_updates_add_up_and_reset_forgets():
    metric = TopK(classes=CLASSES)
    metric.update(whole([0], [0]), whole([0], [0]), metas(1))
    metric.update(whole([1], [0]), whole([0], [0]), metas(1))
    assert metric.compute() == {"top1": 0.5, "top5": 0.5}
    metric.reset()
    assert metric.compute() == {"top1": 0, "top5": 0}


def test_ignored_pictures_do_not_count():
    true = whole([0, 1], [0, 1], ignore=[False, True])
    assert run(whole([0, 0], [0, 1]), true, 2) == {"top1": 1, "top5": 1}


def test_k_above_the_number_of_classes_is_left_out():
    assert list(run(whole([0], [0]), whole([0], [0]), 1, classes=["a", "b"])) == ["top1"]
    assert list(run(whole([0], [0]), whole([0], [0]), 1, k=[2])) == ["top1", "top2"]


@pytest.mark.parametrize(("image", "count"), [([0, 1, 1, 1], 3), ([0], 0)])
def test_two_objects_or_none_name_the_picture(image, count):
    with pytest.raises(UserError, match=rf"pictures/1\.jpg has {count}: use a metric for det"):
        run(whole([0], [0]), whole([0] * len(image), image), 2)


def test_a_score_that_is_none_names_the_picture():
    with pytest.raises(UserError, match=r"pictures/1\.jpg: got"):
        run(whole([0, 0], [0, 1], [1, float("nan")]), whole([0, 0], [0, 1]), 2)


def test_wrong_k_is_refused():
    with pytest.raises(UserError, match=r"k: got \[0, 5\], expected whole numbers from 1"):
        TopK(classes=CLASSES, k=(0, 5))


def test_the_protocol_says_the_rules():
    assert (
        TopK(classes=CLASSES).protocol == "top-1 and top-5 accuracy, one label a picture, one crop"
    )
