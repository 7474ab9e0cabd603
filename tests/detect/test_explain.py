"""matches.csv of `eval.py explain=true`: the average precisions follow from it alone."""

import csv
import json

import cv2
import numpy as np
import pytest
import sets
import torch
from command_line import ended, metrics, run

from classify.metrics.top_k import TopK
from detect.metrics.coco_map import COCOMap
from detect.metrics.reasons import number_in_image, shown
from detect.metrics.voc_map import VOCMap
from engine.errors import UserError
from engine.output import explain
from engine.output.draw_curve import curve, draw
from engine.record import Meta
from engine.structures import Objects

IOUS = (0.1, 0.3, 0.5, 0.75)
PUBLISHED = {  # of voc_case_1, at each of IOUS
    "11_point": (0.3333333333, 0.2683982683, 0.0303030303, 0),
    "all_point": (0.3371980676, 0.2456866804, 0.0222222222, 0),
}


def objects(*rows, scores=None, image=None, ignore=None):
    """Rows are (label, x1, y1, x2, y2)."""
    columns = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return Objects(
        columns[:, 1:],
        columns[:, 0].long(),
        None if image is None else torch.tensor(image),
        None if scores is None else torch.tensor(scores),
        None if ignore is None else torch.tensor(ignore),
    )


def metas(names):
    return [Meta(i, name, f"{name}.jpg", (100, 100), np.eye(2, 3)) for i, name in enumerate(names)]


def rows_of(metric, names):
    """The rows of matches.csv as texts and numbers."""
    return [row for found in metric.explain() for row in explain.rows(found, names)]


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def average(curve, rule):
    """Average precision of (precision, recall) in the order of ranks, by the definitions."""
    if rule != "all_point":
        at = np.linspace(0, 1, int(rule.split("_")[0]))
        return np.mean([max((p for p, r in curve if r >= x), default=0) for x in at])
    recalls = sorted({r for _, r in curve})
    heights = [max(p for p, r in curve if r >= x) for x in recalls]
    return np.dot(np.diff([0, *recalls]), heights)


def average_of(rows, rule):
    """By the columns precision and recall."""
    counted = [row for row in rows if row["verdict"] != "ignored"]
    return average([(float(row["precision"]), float(row["recall"])) for row in counted], rule)


# Inclusive pixels: object 1 of image a is 10 x 10. 10 x 5 of it is IoU 0.5, 10 x 4 is 0.4.
CAT, HALF, LESS = (0, 0, 0, 9, 9), (0, 0, 0, 9, 4), (0, 0, 0, 9, 3)
HARD, AWAY = (0, 50, 50, 59, 59), (0, 80, 0, 89, 9)
BY_HAND = [  # rank, image, score, IoU, object, verdict, why, TP, FP, precision, recall of 2
    (1, "a", 0.9, 1.0, 1, "TP", "IoU 1.00 reaches 0.50", 1, 0, 1.0, 1 / 2),
    (2, "a", 0.8, 0.5, 1, "FP", "its object was found by rank 1 already", 1, 1, 1 / 2, 1 / 2),
    (3, "a", 0.7, 1.0, 2, "ignored", "difficult object: left out", 1, 1, 1 / 2, 1 / 2),
    (4, "a", 0.6, 0.4, 1, "FP", "IoU 0.40 below 0.50", 1, 2, 1 / 3, 1 / 2),
    (5, "b", 0.5, 0.0, "", "FP", "no object of this class in the image", 1, 3, 1 / 4, 1 / 2),
    (6, "a", 0.4, 0.0, "", "FP", "overlaps no object of this class", 1, 4, 1 / 5, 1 / 2),
    (7, "c", 0.3, 1.0, 1, "TP", "IoU 1.00 reaches 0.50", 2, 4, 1 / 3, 1.0),
]


def by_hand(split, **options):
    """The case of BY_HAND, with a dog that nothing finds; in one batch, or image by image."""
    predicted = objects(CAT, HALF, HARD, LESS, CAT, AWAY, CAT, image=[0, 0, 0, 0, 1, 0, 2],
                        scores=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])  # fmt: skip
    true = objects(CAT, HARD, CAT, (1, 5, 5, 9, 9), image=[0, 0, 2, 1],
                   ignore=[False, True, False, False])  # fmt: skip
    metric = VOCMap(classes=["cat", "dog", "cow"], **options)
    if not split:
        metric.update(predicted, true, metas("abc"))
    for i in range(3) if split else ():
        metric.update(predicted.of(i), true.of(i), metas("abc")[i : i + 1])
    return metric


@pytest.mark.parametrize("split", [False, True])
def test_each_detection_has_its_reason(split):
    found = rows_of(by_hand(split), "abc")
    assert [row[0] for row in found] == ["cat"] * 7
    assert [row[1:] for row in found] == BY_HAND


# By all points: recall to 1/2 at 1, to 1 at 1/3. By 11: recalls 0 to .5 at 1, five at 1/3.
@pytest.mark.parametrize(("rule", "ap"), [("all_point", 2 / 3), ("11_point", 23 / 33)])
def test_the_files_of_an_evaluation(rule, ap, tmp_path, caplog):
    caplog.set_level("INFO")
    metric = by_hand(split=False, rule=rule)
    explain.write(tmp_path, metric, "abc")
    found = read(tmp_path / "matches.csv")
    assert [row["class"] for row in found] == ["cat"] * 7
    assert average_of(found, rule) == pytest.approx(ap)
    assert metric.compute()["AP/cat"] == pytest.approx(ap)
    drawn = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert drawn == ["pr_cat.png", "pr_dog.png"]  # no image has a cow, found or true
    assert cv2.imread(str(tmp_path / "images/pr_cat.png")).shape == (420, 560, 3)
    lines = [line.split() for line in caplog.text.splitlines()]
    assert ["cat", "2", "2", "4", "1", "0", f"{ap:.6f}"] in lines
    assert ["dog", "1", "0", "0", "0", "1", "0.000000"] in lines


def test_a_detection_of_coco_takes_its_second_choice():
    # xywh (0, 0, 10, 10) and (0, 0, 10, 8): IoU 80 / 100. A crowd at (50, 50, 40, 40) holds all of
    # the third detection; a fourth finds both objects taken.
    whole, part = (0, 0, 0, 10, 10), (0, 0, 0, 10, 8)
    predicted = objects(whole, whole, (0, 60, 60, 70, 70), whole, scores=[0.9, 0.8, 0.7, 0.6])
    true = objects(whole, part, (0, 50, 50, 90, 90), ignore=[False, False, True])
    metric = COCOMap(classes=["cat"])
    metric.update(predicted, true, metas("a"))
    second = "object 1 was found by rank 1 already; object 2 reaches 0.50 too"
    taken = "its object was found by rank 1 already"
    assert [row[4:8] for row in rows_of(metric, "a")] == [
        (1.0, 1, "TP", "IoU 1.00 reaches 0.50"),
        (1.0, 2, "TP", second),
        (1.0, 3, "ignored", "crowd or ignored object: left out"),
        (1.0, 1, "FP", taken),
    ]


def test_of_an_image_100_detections_of_a_class_count():
    boxes = [CAT] * 101
    metric = COCOMap(classes=["cat"])
    metric.update(objects(*boxes, scores=np.linspace(1, 0, 101)), objects(CAT), metas("a"))
    (found,) = metric.explain()
    assert (found.right.sum(), found.wrong.sum()) == (1, 99)
    assert found.why[100] == "not of the 100 highest scores of class and image"


@pytest.mark.parametrize("seed", range(3))
def test_ap50_of_coco_follows(seed):
    # Objects of a class in a crowded image overlap, scores are equal often.
    rng, names = np.random.default_rng(seed), "abcdefgh"
    low = rng.integers(0, 60, (60, 2))
    true = np.hstack([rng.integers(0, 2, (60, 1)), low, low + rng.integers(15, 40, (60, 2))])
    image, near = rng.integers(0, 8, 60), rng.integers(0, 60, 300)
    found = true[near] + np.hstack([np.zeros((300, 1)), rng.normal(0, 4, (300, 4))])
    metric = COCOMap(classes=["cat", "dog"])
    metric.update(
        objects(*found.tolist(), image=image[near], scores=rng.random(300).round(1)),
        objects(*true.tolist(), image=image, ignore=rng.random(60) < 0.2),
        metas(names),
    )
    explained = metric.explain()
    averages = [average_of(as_read(each, names), "101_point") for each in explained]
    assert averages == pytest.approx([each.ap for each in explained])
    assert 0.2 < metric.compute()["AP50"] == pytest.approx(np.mean(averages))
    endings = {why.split()[-1] for each in explained for why in each.why}
    assert {"0.50", "already", "out", "too"} <= endings


def as_read(found, names):
    return [dict(zip(explain.COLUMNS, row, strict=True)) for row in explain.rows(found, names)]


@pytest.fixture(scope="module")
def published(shared_data, tmp_path_factory):
    """The folder of GT.json and DETS.json: 15 objects, 24 detections with published numbers."""
    folder, source = tmp_path_factory.mktemp("case"), shared_data / "map_reference/voc_case_1"
    truth = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "object"}]}
    detections = []
    for number, path in enumerate(sorted((source / "gts").glob("*.txt")), 1):
        truth["images"].append({"id": number, "file_name": f"{path.stem}.jpg", "width": 300,
                                "height": 300})  # fmt: skip
        for line in path.read_text().splitlines():
            box = [float(x) for x in line.split()[1:]]
            truth["annotations"].append({"id": len(truth["annotations"]) + 1, "category_id": 7,
                                         "image_id": number, "bbox": box, "iscrowd": 0,
                                         "area": box[2] * box[3]})  # fmt: skip
        for line in (source / "dets" / path.name).read_text().splitlines():
            score, *box = [float(x) for x in line.split()[1:]]
            detections.append({"image_id": number, "category_id": 7, "bbox": box, "score": score})
    (folder / "GT.json").write_text(json.dumps(truth))
    (folder / "DETS.json").write_text(json.dumps(detections))
    return folder


FILES = ("eval.py", "truth=GT.json", "predictions=DETS.json", "report=false", "explain=true")


def test_both_rules_of_voc_follow_from_the_published_case(published):
    out = run(*FILES, "metric=voc_map", "metric.rule=11_point", "metric.iou=0.3",
              "hydra.run.dir=voc", cwd=published)  # fmt: skip
    found, numbers = read(published / "voc/matches.csv"), metrics(published / "voc")["metrics"]
    assert (len(found), found[0]["score"], found[0]["image"]) == (24, "0.95", "5")
    assert average_of(found, "11_point") == pytest.approx(numbers["mAP"])
    # objects, TP, FP, ignored, missed, AP
    line = ["object", "15", "7", "17", "0", "8", "0.268398"]
    assert line in map(str.split, out.splitlines())
    assert (published / "voc/images/pr_object.png").exists()
    for rule, values in PUBLISHED.items():
        assert average_of(found, rule) == pytest.approx(values[1], abs=1e-9)
        for iou, value in zip(IOUS, values, strict=True):
            assert average(curve_at(found, iou, 15), rule) == pytest.approx(value, abs=1e-9)


def curve_at(rows, iou, total):
    """Precision and recall at any IoU, by the columns best_iou, image and object."""
    taken, found = set(), []
    for rank, row in enumerate(rows, 1):
        if float(row["best_iou"]) >= iou:
            taken.add((row["image"], row["object"]))
        found.append((len(taken) / rank, len(taken) / total))
    return found


def test_ap50_follows_from_the_published_case(published):
    run(*FILES, "metric=coco_map", "hydra.run.dir=coco", cwd=published)
    found = read(published / "coco/matches.csv")
    assert 0 < average_of(found, "101_point") < 0.1
    ours = metrics(published / "coco")["metrics"]["AP50"]
    assert average_of(found, "101_point") == pytest.approx(ours)


def test_a_data_set_and_a_predictions_file(tmp_path):
    sets.write_voc(tmp_path / "data", {"train": ["a"], "val": ["c", "a"]})
    row = {"image_id": "a", "category_id": 3, "bbox": [4, 6, 32, 24], "score": 0.5}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    out = run("eval.py", "dataset=voc", "dataset.root=data", "predictions=rows.json",
              "metric=voc_map", "report=false", "explain=true", "hydra.run.dir=out",
              cwd=tmp_path)  # fmt: skip
    (found,) = read(tmp_path / "out/matches.csv")
    assert [found[k] for k in ("class", "image", "verdict", "object")] == ["cat", "a", "TP", "1"]
    lines = [line.split() for line in out.splitlines()]
    for name in ("ant", "bee"):  # of the images a and c, both missed
        assert [name, "1", "0", "0", "0", "1", "0.000000"] in lines


def test_a_metric_without_boxes_is_refused(published):
    with pytest.raises(UserError, match="explain=true: TopK .* metric=voc_map and metric=coco_map"):
        explain.check(TopK(classes=["a", "b"]))
    refused = ended(*FILES, "metric=top_k", "hydra.run.dir=refused", cwd=published)
    assert refused.returncode == 2 and "metric=coco_map do" in refused.stderr
    assert not (published / "refused/metrics.json").exists()


def test_the_curve_goes_down_where_a_later_precision_is_better():
    (found, *_) = by_hand(split=False).explain()
    recall, precision, best = curve(found)
    assert recall.tolist() == [1 / 2] * 5 + [1]
    assert precision.tolist() == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 3]
    assert best.tolist() == [1, 1 / 2, 1 / 3, 1 / 3, 1 / 3, 1 / 3]


def test_any_name_and_no_detection_can_be_drawn():
    metric = VOCMap(classes=["鳥 $a_1$", "$"], rule="11_point")
    metric.update(objects(CAT), objects((1, 0, 0, 9, 9)), metas("a"))
    drawn = [draw(found) for found in metric.explain()]
    assert all(image.min() < 50 and image.max() == 255 for image in drawn)


def test_an_iou_is_shown_on_its_side_of_the_threshold():
    assert [shown(x, 0.5) for x in (0.43, 0.5, 0.504, 0.4999, 0.5 - 1e-9)] == [
        "0.43", "0.50", "0.50", "0.4999", "0.499999999"]  # fmt: skip
    assert [shown(x) for x in (0.5, 0.375)] == ["0.50", "0.375"]
    assert [shown(x, 0.375) for x in (0.3749, 0.375, 0.9)] == ["0.3749", "0.375", "0.900"]


def test_objects_are_numbered_in_their_image():
    assert number_in_image(np.array([0, 2, 0, 2, 2, 1])).tolist() == [1, 1, 2, 2, 3, 1]
