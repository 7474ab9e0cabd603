from pathlib import Path

import numpy as np
import pytest
import torch

from detect.metrics.voc_map import VOCMap
from engine.errors import UserError
from engine.record import Meta
from engine.structures import Objects

IOUS = (0.1, 0.3, 0.5, 0.75)
PUBLISHED = {  # (rule, inclusive) -> mAP at each of IOUS
    ("11_point", True): (0.3333333333, 0.2683982683, 0.0303030303, 0),
    ("all_point", True): (0.3371980676, 0.2456866804, 0.0222222222, 0),
    ("all_point", False): (0.2801328502, 0.2253968254),
}


def objects(*rows, scores=None, image=None, ignore=None):
    """Rows are (label, x1, y1, x2, y2)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return Objects(
        table[:, 1:],
        table[:, 0].long(),
        None if image is None else torch.tensor(image),
        None if scores is None else torch.tensor(scores),
        None if ignore is None else torch.tensor(ignore),
    )


def metas(count=1):
    return [Meta(i, i, f"images/{i}.jpg", (100, 100), np.eye(2, 3)) for i in range(count)]


def run(predicted, true, count=1, **options):
    metric = VOCMap(classes=["cat", "dog"], **options)
    metric.update(predicted, true, metas(count))
    return metric.compute()


CAT, FAR, AWAY = (0, 0, 0, 9, 9), (0, 50, 50, 59, 59), (0, 80, 0, 89, 9)


@pytest.mark.parametrize(("rule", "expected"), [("all_point", 5 / 6), ("11_point", 28 / 33)])
def test_three_boxes_by_hand(rule, expected):
    # By score: right, wrong, right. Two truths: recall 1/2, 1/2, 1; precision 1, 1/2, 2/3.
    # All-point: 1/2 * 1 + 1/2 * 2/3 = 5/6. 11-point: 6 recalls (0 .. .5) at 1, 5 at 2/3: 28/33.
    predicted = objects(CAT, AWAY, FAR, scores=[0.9, 0.8, 0.7])
    numbers = run(predicted, objects(CAT, FAR), rule=rule)
    assert numbers == pytest.approx({"mAP": expected, "recall": 1, "AP/cat": expected})


def test_the_second_detection_of_an_object_is_wrong():
    # Right (.9), duplicate (.8), right (.7): as above, 1/2 * 1 + 1/2 * 2/3.
    predicted = objects(FAR, CAT, CAT, scores=[0.7, 0.8, 0.9])
    assert run(predicted, objects(CAT, FAR))["mAP"] == pytest.approx(5 / 6)


def test_a_taken_truth_is_not_swapped_for_the_next_best():
    # Both overlap the truth at 0..9 most, though the other truth (0..7, 0.8 of it) is free.
    predicted = objects(CAT, CAT, scores=[0.9, 0.8])
    assert run(predicted, objects(CAT, (0, 0, 0, 9, 7)))["mAP"] == pytest.approx(1 / 2)


@pytest.mark.parametrize(("second", "expected"), [((0, 0, 0, 9, 9), 1 / 2), ((0, 10, 0, 19, 9), 1)])
def test_of_equal_overlaps_the_first_truth_is_taken(second, expected):
    # Columns 5..14 share 5 * 10 = 50 with columns 0..9 and with 10..19, of 100 + 100 - 50: 1/3
    # each. The first truth is taken, so a second detection on it is wrong (1 of 2 found, precision
    # 1: AP 1/2), and one on the other is right.
    between = (0, 5, 0, 14, 9)
    predicted = objects(between, second, scores=[0.9, 0.8])
    true = objects((0, 0, 0, 9, 9), (0, 10, 0, 19, 9))
    assert run(predicted, true, iou=0.3)["mAP"] == pytest.approx(expected)


def test_difficult_objects_neither_count_nor_harm():
    # On the difficult one fall two detections, both better scored: left out. 1 of 1 is found.
    predicted = objects(FAR, FAR, CAT, scores=[0.9, 0.8, 0.7])
    numbers = run(predicted, objects(CAT, FAR, ignore=[False, True]))
    assert numbers == {"mAP": 1, "recall": 1, "AP/cat": 1}


@pytest.mark.parametrize("rule", ["all_point", "11_point"])
def test_empty_cases_are_zero(rule):
    assert run(objects(), objects(CAT), rule=rule) == {"mAP": 0, "recall": 0, "AP/cat": 0}
    nothing = {"mAP": 0, "recall": 0}
    assert run(objects(CAT), objects(), rule=rule) == nothing
    assert run(objects(CAT), objects(CAT, ignore=[True]), rule=rule) == nothing
    assert VOCMap(classes=["cat"], rule=rule).compute() == nothing


def test_the_mean_is_over_classes_with_objects():
    # cat 1, dog 0 (its detection lies in the wrong image).
    dog = (1, 0, 0, 9, 9)
    numbers = run(
        objects(CAT, dog, image=[0, 0]), objects(CAT, dog, image=[0, 1]), count=2, rule="11_point"
    )
    assert numbers == {"mAP": 0.5, "recall": 0.5, "AP/cat": 1, "AP/dog": 0}


def test_the_threshold_itself_is_enough():
    # Inclusive: 10x10 against 10x5 is 50 / 100. Without +1: 9x9 against 9x4 is 36 / 81 < .5.
    predicted = objects((0, 0, 0, 9, 4))
    assert run(predicted, objects(CAT))["mAP"] == 1
    assert run(predicted, objects(CAT), inclusive=False)["mAP"] == 0


def test_boxes_without_area_overlap_nothing():
    flat = objects((0, 5, 5, 5, 5))
    assert run(flat, flat, inclusive=False)["mAP"] == 0
    assert run(flat, flat)["mAP"] == 1  # one pixel


def test_batches_and_single_images_agree_and_reset_forgets():
    rng = np.random.default_rng(0)
    batch = [random_objects(rng, 200, 10), random_objects(rng, 60, 10)]
    metric = VOCMap(classes=["cat", "dog"], iou=0.3)
    metric.update(*batch, metas(10))
    whole = metric.compute()
    assert 0 < whole["mAP"] < 1
    assert metric.compute() == whole
    metric.reset()
    for i in range(10):
        metric.update(*(part.of(i) for part in batch), metas()[:1])
    assert metric.compute() == whole


def random_objects(rng, count, num_images):
    low, size = rng.integers(0, 30, (count, 2)), rng.integers(10, 40, (count, 2))
    table = np.hstack([rng.integers(0, 2, (count, 1)), low, low + size])
    image = np.sort(rng.integers(0, num_images, count))
    scores = rng.random(count, np.float32).round(1)
    return objects(*table.tolist(), scores=scores, image=image, ignore=rng.random(count) < 0.2)


def plain_ap(predicted, true, label, iou):
    """The devkit's loop, detection by detection: (average precision, highest recall)."""
    taken, curve, right, wrong = set(), [], 0, 0
    total = int(((true.labels == label) & ~true.ignore).sum())
    for i in np.argsort(-predicted.scores.numpy(), kind="stable"):
        if predicted.labels[i] != label:
            continue
        most, best = -np.inf, -1
        for j in range(len(true)):
            if true.labels[j] == label and true.batch_index[j] == predicted.batch_index[i]:
                a, b = predicted.boxes[i].double(), true.boxes[j].double()
                sides = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2]) + 1).clamp(0)
                areas = sum(float((x[2:] - x[:2] + 1).prod()) for x in (a, b))
                overlap = float(sides.prod()) / (areas - float(sides.prod()))
                if overlap > most:
                    most, best = overlap, j
        if most >= iou and true.ignore[best]:
            continue
        fresh = most >= iou and best not in taken
        taken.add(best if fresh else None)
        right, wrong = right + fresh, wrong + (not fresh)
        curve.append((right / total, right / (right + wrong)))
    recalls = sorted({r for r, _ in curve if r > 0})
    steps = np.diff([0, *recalls])
    heights = [max(p for r, p in curve if r >= at) for at in recalls]
    return float(np.dot(steps, heights))


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_plain_loop(seed):
    rng = np.random.default_rng(seed)
    predicted, true = random_objects(rng, 150, 6), random_objects(rng, 40, 6)
    numbers = run(predicted, true, count=6)
    for label, name in enumerate(["cat", "dog"]):
        assert numbers[f"AP/{name}"] == pytest.approx(plain_ap(predicted, true, label, 0.5))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_number_that_is_none_names_the_image(wrong):
    scored = objects(CAT, CAT, image=[0, 1], scores=[1, wrong])
    placed = objects(CAT, (0, 0, wrong, 1, 1), image=[0, 1])
    for predicted in (scored, placed):
        with pytest.raises(UserError, match=r"images/1\.jpg: got box .* expected finite"):
            run(predicted, objects(CAT, image=[0]), count=2)


def test_wrong_options_are_refused():
    with pytest.raises(UserError, match=r"rule: got 11point.*did you mean '11_point'"):
        VOCMap(classes=["cat"], rule="11point")
    for iou in (0, 1.5, float("nan")):
        with pytest.raises(UserError, match=r"iou: got .* expected an overlap above 0"):
            VOCMap(classes=["cat"], iou=iou)


def test_the_protocol_names_the_rules():
    metric = VOCMap(classes=["cat"])
    assert metric.protocol == "VOC AP, IoU 0.50, all-point rule, inclusive pixels (+1)"
    other = VOCMap(classes=["cat"], iou=0.375, rule="11_point", inclusive=False)
    assert other.protocol == "VOC AP, IoU 0.375, 11-point rule (VOC2007), continuous coordinates"


def read_text(path: Path) -> Objects:
    """Rows `class [confidence] x y w h`."""
    rows = np.array([line.split()[1:] for line in path.read_text().splitlines()], float)
    low, size = rows[:, -4:-2], rows[:, -2:]
    table = np.hstack([np.zeros((len(rows), 1)), low, low + size])
    return objects(*table.tolist(), scores=rows[:, 0] if rows.shape[1] == 5 else None)


@pytest.mark.parametrize("setting", PUBLISHED, ids=str)
def test_published_numbers(shared_data, setting):
    folder = shared_data / "map_reference" / "voc_case_1"
    rule, inclusive = setting
    for iou, expected in zip(IOUS, PUBLISHED[setting], strict=False):
        metric = VOCMap(classes=["object"], iou=iou, rule=rule, inclusive=inclusive)
        for truth in sorted((folder / "gts").glob("*.txt")):
            metric.update(read_text(folder / "dets" / truth.name), read_text(truth), metas())
        assert metric.compute()["mAP"] == pytest.approx(expected, abs=1e-9)
