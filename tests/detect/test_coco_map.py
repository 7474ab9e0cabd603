import math

import numpy as np
import pytest
import torch
from reference import KEYS, pycocotools_stats

from detect.datasets.coco import COCO
from detect.metrics.coco_map import COCOMap
from engine.errors import UserError
from engine.output import predictions, read_predictions
from engine.record import Meta
from engine.structures import Objects

# Published with the data and reproduced with pycocotools.
PUBLISHED = (0.503647, 0.696973, 0.571667, 0.593252, 0.557991, 0.489363)
PUBLISHED += (0.386813, 0.593680, 0.595353, 0.654764, 0.603130, 0.553744)
CLASSES = ["cat", "dog", "cow"]


def metas(count=1):
    return [Meta(i, i, f"images/{i}.jpg", (0, 0), np.eye(2, 3)) for i in range(count)]


def random_data(seed, num_images=20):
    """Objects with crowds and given areas; detections near them, some with equal scores."""
    rng = np.random.default_rng(seed)
    count = 5 * num_images
    low, size = rng.uniform(0, 300, (count, 2)), np.exp(rng.uniform(1, 5.5, (count, 2)))
    true = Objects(
        torch.tensor(np.hstack([low, low + size])).float(),
        torch.tensor(rng.integers(0, len(CLASSES), count)),
        torch.tensor(np.sort(rng.integers(0, num_images, count))),
        ignore=torch.tensor(rng.random(count) < 0.15),
    )
    true.area = true.area * torch.tensor(rng.uniform(0.4, 1, count)).float()
    near = true.select(torch.tensor(np.sort(rng.integers(0, count, 3 * count))))
    corners = near.boxes + torch.tensor(rng.normal(0, 3, (len(near), 4))).float()
    low, high = corners[:, :2], corners[:, 2:].maximum(corners[:, :2] + 1)
    scores = torch.tensor(rng.random(len(near)).round(1)).float()
    return Objects(torch.cat([low, high], 1), near.labels, near.batch_index, scores), true


def rows(objects):
    """COCO's annotations, one per object."""
    boxes = objects.boxes.numpy().astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {
            "id": i + 1,
            "image_id": int(objects.batch_index[i]) + 1,
            "category_id": int(objects.labels[i]) + 1,
            "bbox": boxes[i].tolist(),
            "score": float(objects.scores[i]),
            "area": float(objects.area[i]),
            "iscrowd": int(objects.ignore[i]),
        }
        for i in range(len(objects))
    ]


def stats(predicted, true, num_images):
    """pycocotools' twelve numbers."""
    truth = {
        "images": [{"id": i + 1} for i in range(num_images)],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)],
        "annotations": rows(true),
    }
    return pycocotools_stats(truth, rows(predicted))


@pytest.mark.parametrize("seed", range(8))
def test_equals_pycocotools_bit_for_bit(seed, capfd):
    predicted, true = random_data(seed)
    metric = COCOMap(classes=CLASSES)
    for i in range(20):
        metric.update(predicted.of(i), true.of(i), metas())
    numbers = metric.compute()
    assert list(numbers) == KEYS
    assert np.array_equal([*numbers.values()], stats(predicted, true, 20))
    assert numbers["AP"] > 0.05
    assert capfd.readouterr().out == ""


def average(scores, right, total):
    """AP by COCO's 101 points."""
    right = right[np.argsort(-scores, kind="stable")].cumsum()
    precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
    at = np.searchsorted(right / total, np.linspace(0, 1, 101))
    return np.append(precision, 0)[at].mean()


@pytest.mark.parametrize("seed", range(3))
def test_curves_have_the_area_that_pycocotools_finds_at_half_overlap(seed):
    predicted, true = random_data(seed)
    metric = COCOMap(classes=[*CLASSES, "nowhere"])
    metric.update(predicted, true, metas(20))
    ranked = metric.ranked()
    assert list(ranked) == CLASSES
    assert sum(each.total for each in ranked.values()) == int((~true.ignore).sum()) < len(true)
    area = np.mean([average(*each) for each in ranked.values()])
    assert area == pytest.approx(stats(predicted, true, 20)[1], abs=1e-12) and area > 0


def test_batches_and_single_images_agree_and_reset_forgets():
    predicted, true = random_data(0)
    metric = COCOMap(classes=CLASSES)
    metric.update(predicted, true, metas(20))
    whole = metric.compute()
    assert metric.compute() == whole
    metric.reset()
    for i in range(20):
        metric.update(predicted.of(i), true.of(i), metas())
    assert metric.compute() == whole


def test_sides_are_not_rounded_to_float32():
    low, high = np.float32(0.1), np.float32(1000.1)
    objects = Objects(torch.tensor([[low, low, high, high]]), torch.tensor([0]))
    metric = COCOMap(classes=CLASSES)
    metric.update(objects, objects, metas())
    side = float(high) - float(low)
    assert side != float(high - low) == 1000
    for table in (metric.predicted, metric.true):
        assert table[-1][0, 3:5].tolist() == [side, side]


def square(size, count=1):
    boxes = torch.tensor([[0, 0, size, size]], dtype=torch.float32).repeat(count, 1)
    return Objects(boxes, torch.zeros(count, dtype=torch.int64))


def compute(predicted, true):
    metric = COCOMap(classes=CLASSES)
    metric.update(predicted, true, metas())
    return metric.compute()


def test_a_perfect_detection_is_one_and_sizes_without_objects_are_none():
    # 40 x 40 = 1600: medium is 32^2 to 96^2.
    numbers = compute(square(40), square(40))
    assert [numbers[key] for key in ("AP", "APm", "AR1")] == pytest.approx([1, 1, 1])
    assert all(math.isnan(numbers[key]) for key in ("APs", "APl", "ARs", "ARl"))


def test_nothing_predicted_is_zero():
    numbers = compute(Objects.empty(), square(40))
    assert list(numbers) == KEYS
    assert numbers["AP"] == numbers["AP50"] == numbers["AR100"] == 0


@pytest.mark.parametrize("predicted", [Objects.empty(), square(40)])
def test_without_truth_only_the_primary_is_a_number_and_no_curve(predicted):
    metric = COCOMap(classes=CLASSES)
    assert metric.ranked() == {}
    metric.update(predicted, Objects.empty(), metas())
    assert metric.ranked() == {}
    for numbers in (compute(predicted, Objects.empty()), COCOMap(classes=CLASSES).compute()):
        assert list(numbers) == KEYS
        assert numbers["AP"] == 0
        assert all(math.isnan(numbers[key]) for key in KEYS[1:])


def test_any_number_of_detections_may_fall_on_a_crowd():
    # Two better scored detections on the crowd at 100..200 leave the one object's AP at 1.
    crowd = Objects(torch.tensor([[100.0, 100, 200, 200]]), torch.tensor([0]))
    true = Objects.cat([Objects.cat([square(40)]), crowd])
    true.batch_index.zero_()
    true.ignore = torch.tensor([False, True])
    predicted = true.select(torch.tensor([0, 1, 1]))
    predicted.scores = torch.tensor([0.5, 0.9, 0.8])
    assert compute(predicted, true)["AP"] == pytest.approx(1)
    metric = COCOMap(classes=CLASSES)
    metric.update(predicted, true, metas())
    (found,) = metric.ranked().values()  # the two on the crowd are neither right nor wrong
    assert found.scores.tolist() == [0.5] and found.right.tolist() == [True] and found.total == 1
    true.ignore = torch.tensor([False, False])
    assert compute(predicted, true)["AP"] < 0.9


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_number_that_is_none_names_the_image(wrong):
    predicted = square(40, 2)
    predicted.batch_index, predicted.scores = torch.tensor([0, 1]), torch.tensor([1, wrong])
    with pytest.raises(UserError, match=r"images/1\.jpg: got box .* expected finite"):
        COCOMap(classes=CLASSES).update(predicted, square(40), metas(2))


def test_published_numbers(shared_data):
    folder = shared_data / "map_reference" / "coco_eval"
    dataset = COCO(annotations=str(folder / "gts" / "sampled_gts_bbox_area.json"))
    found = read_predictions.read(
        folder / "cocoapi_results.json", dataset, predictions.categories(dataset)
    )
    numbers = read_predictions.score(dataset, COCOMap(classes=dataset.classes), found.table)
    assert (len(dataset), len(found.table.image), len(found.unknown)) == (100, 734, 0)
    assert [*numbers.values()] == pytest.approx(PUBLISHED, abs=5e-7)
