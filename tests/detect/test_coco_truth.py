"""Scoring a file against a file gives pycocotools' twelve numbers, whatever the files hold."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from reference import KEYS, mended, pycocotools_stats

from detect.datasets.coco_truth import COCOTruth
from detect.metrics.coco_map import COCOMap
from detect.metrics.voc_map import VOCMap
from engine.builders import conformance
from engine.errors import UserError
from engine.output import predictions, read_predictions

CASES = Path(__file__).parents[3] / "shared" / "cases"
PAIRS = {  # truth file -> results
    **dict.fromkeys(["gt", "gt_outside", "gt_zero_area", "gt_no_file_name"], "det"),
    "gt_duplicate_ids": "det",
    "flat/gt": "flat/dt",
    **{f"19_predictions_types/{name}": "19_predictions_types/ok" for name in ("gt", "gt_noarea")},
    "19_predictions_types/gt_dupann": "19_predictions_types/ok",
    "19_predictions_types/gt_dupcat": "19_predictions_types/dt_dupcat",
    "19_predictions_types/gt_strcrowd": "19_predictions_types/ok",
}
GT_RESULTS = {  # of one truth file
    "gt": ["det_float_ids", "det_other_category"],
    "19_predictions_types/gt": [
        f"19_predictions_types/{name}"
        for name in ("float_id", "floatcat", "nolabel", "percent", "strictjson", "segm", "strcat")
    ],
}
EVERY = [*PAIRS.items(), *((gt, dt) for gt, names in GT_RESULTS.items() for dt in names)]


def score(folder, truth, rows, metric=COCOMap, **options):
    """Our numbers for the contents of two files, what is said of them, and the rows not scored."""
    for name, content in (("gt.json", truth), ("dt.json", rows)):
        (folder / name).write_text(json.dumps(content))
    data = COCOTruth(annotations=str(folder / "gt.json"), **options)
    conformance.check_object(data, "dataset")  # as the commands do
    found = read_predictions.read(folder / "dt.json", data, predictions.categories(data))
    numbers = read_predictions.score(data, metric(classes=data.classes), found.table)
    return numbers, data.notes + found.notes, found.unknown + found.unlisted


def check(folder, truth, rows):
    """Compare with pycocotools; return its numbers and what we say."""
    ours, notes, _ = score(folder, truth, rows)
    expected = pycocotools_stats(*mended(truth, rows))
    assert list(ours) == KEYS
    assert np.array_equal(np.nan_to_num(list(ours.values()), nan=-1), expected)
    return expected, notes


def load(name):
    return json.loads((CASES / f"{name}.json").read_text())


@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases")
@pytest.mark.parametrize(("truth", "rows"), EVERY, ids="-".join)
def test_the_cases_score_as_pycocotools_does(truth, rows, tmp_path):
    check(tmp_path, load(truth), load(rows))


@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases")
def test_ids_that_are_texts_score_as_numbers_do(tmp_path):
    rows = [row | {"image_id": f"img_{row['image_id']}"} for row in load("det")]
    expected, _ = check(tmp_path, load("gt_string_ids"), rows)
    assert expected[0] == pytest.approx(0.7505, abs=5e-5)


OTHER_IDS = {"floats": float, "halves": lambda n: n + 0.5, "texts": str, "negative": lambda n: -n,
             "from 0": lambda n: n - 1, "large": lambda n: n * 10**17}  # fmt: skip


@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases")
@pytest.mark.parametrize("kind", OTHER_IDS)
def test_ids_of_categories_may_be_of_any_kind(kind, tmp_path):
    new = OTHER_IDS[kind]
    truth, rows = load("gt"), load("det")
    for row in truth["categories"]:
        row["id"] = new(row["id"])
    for row in (*truth["annotations"], *rows):
        row["category_id"] = new(row["category_id"])
    expected, _ = check(tmp_path, truth, rows)
    assert expected[0] == pytest.approx(0.7505, abs=5e-5)


IMAGES = {"numbers": [7, 3, 12], "texts": ["b", "a", "10"], "floats": [2.0, 1.0, 0.5]}
SIDES = [0, 0, 10, 20.5, 40.2, 100.7]


def hostile(seed):
    """A truth file and results in which anything odd may happen, many of them on equal scores."""
    rng = np.random.default_rng(seed)
    images, categories = IMAGES[list(IMAGES)[seed % 3]], [5, 1, 90]

    def pick(values):
        return values[rng.integers(len(values))]

    def box():
        corner = [float(x) for x in rng.choice([0, -50, 10, 20, 30.5, 630], 2)]
        return corner + [float(x) for x in rng.choice([*SIDES, -3] if seed % 4 == 0 else SIDES, 2)]

    annotations = []
    for number in range(rng.integers(0, 60)):
        x, y, w, h = box()
        row = {"id": number if seed % 2 else number % 20, "image_id": pick([*images, "nowhere"]),
               "category_id": pick([*categories, 77]), "bbox": [x, y, w, h]}  # fmt: skip
        if rng.random() < 0.8:
            row["area"] = float(pick([w * h, w * h, 0, 1024, 9216, 1e11]))
        if rng.random() < 0.8:
            row["iscrowd"] = int(rng.random() < 0.2)
        if row["category_id"] == 77 and rng.random() < 0.5:
            del row["bbox"]  # of no interest: the file does not list its category
        annotations.append(row)
    boxes = [row for row in annotations if "bbox" in row]
    rows = []
    for _ in range(rng.choice([1, 30, 400])):
        near = pick(boxes) if boxes and rng.random() < 0.7 else None
        row = {"image_id": pick([*images, 99]), "category_id": pick([*categories, 78]),
               "bbox": box(), "score": round(rng.random(), 1) - 0.2 * (seed % 5 == 0)}  # fmt: skip
        if near:
            row |= {key: near[key] for key in ("image_id", "category_id", "bbox")}
        rows.append(row)
    listed = [{"id": i, "file_name": "x.jpg"} if seed % 2 else {"id": i} for i in images]
    rows.append({"image_id": images[0], "category_id": 5, "bbox": box(), "score": 0.5})
    names = [{"id": number, "name": "thing"} for number in categories]
    return {"images": listed, "categories": names, "annotations": annotations}, rows


def without_boxless(truth):
    """pycocotools filters them by category before it reads a box, `mended` does not."""
    kept = [row for row in truth["annotations"] if "bbox" in row]
    return truth | {"annotations": kept}


@pytest.mark.parametrize("seed", range(60))
def test_hostile_files_score_as_pycocotools_does(seed, tmp_path):
    truth, rows = hostile(seed)
    ours, _, _ = score(tmp_path, truth, rows)
    expected = pycocotools_stats(*mended(without_boxless(truth), rows))
    assert np.allclose(np.nan_to_num(list(ours.values()), nan=-1), expected, rtol=0, atol=1e-12)


def test_the_hostile_files_are_not_all_alike():
    scored = [pycocotools_stats(*mended(without_boxless(t), r)) for t, r in map(hostile, range(9))]
    assert len({tuple(stats) for stats in scored}) == 9 and max(s[0] for s in scored) > 0.05


def test_real_images_score_as_pycocotools_does(shared_data, tmp_path):
    rng = np.random.default_rng(0)
    file = next((shared_data / "coco_tiny").rglob("instances_val*.json"))
    truth = json.loads(file.read_text())
    rows = []
    for row in truth["annotations"] * 3:
        jitter = rng.normal(0, 0.1, 4) * np.tile(row["bbox"][2:], 2)
        box = (np.array(row["bbox"]) + jitter).clip(0).round(2).tolist()
        rows.append({"image_id": row["image_id"], "category_id": row["category_id"], "bbox": box,
                     "score": round(rng.random(), 2)})  # fmt: skip
    expected, notes = check(tmp_path, truth, rows)
    assert expected.min() > 0.1 and not notes


def small(annotations=(), **change):
    """A truth file of two images and two categories."""
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in (1, 2)]
    categories = [{"id": 5, "name": "cat"}, {"id": 0, "name": "dog"}]
    return {"images": images, "categories": categories, "annotations": list(annotations)} | change


def box(**change):
    return {"id": 1, "image_id": 1, "category_id": 5, "bbox": [10, 10, 20, 20], "area": 400,
            "iscrowd": 0} | change  # fmt: skip


def row(**change):
    return {"image_id": 1, "category_id": 5, "bbox": [10, 10, 20, 20], "score": 0.9} | change


ODD = [
    ([box(id=0)], {}, "annotations of id 0: 1"),
    ([box(), box(image_id=2)], {}, "annotations that share an id with another: 2"),
    ([box(image_id=9)], {}, "annotations of images that the file does not list: 1"),
    ([box(category_id=9)], {}, r"categories that the file does not list \(id 9\): 1"),
    ([{k: v for k, v in box().items() if k != "area"}], {}, "annotations without area: 1"),
    ([box(iscrowd="0")], {}, "annotations with iscrowd as a text: 1; '0' is read as 0"),
    ([box(bbox=[9, 9, 0, 3])], {}, "annotations whose box has no area: 1; they are scored"),
    ([box(bbox=[100, 9, 5, 3])], {}, "annotations outside their image: 1; they are scored"),
    ([box(bbox=[9, 9, -2, 3])], {}, "negative width or height: 1"),
    ([], {"images": [{"id": 1}]}, "images without a file_name: 1"),
    ([], {"images": [{"id": 1, "file_name": "a"}] * 2}, "image ids that are repeated: 1"),
    ([], {"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]}, "share a name: cat"),
]


@pytest.mark.parametrize(("annotations", "change", "note"), ODD)
def test_what_is_odd_in_the_truth_is_counted_aloud(annotations, change, note, tmp_path):
    (tmp_path / "gt.json").write_text(json.dumps(small(annotations, **change)))
    data = COCOTruth(annotations=str(tmp_path / "gt.json"))
    assert [re.search(note, line) for line in data.notes if re.search(note, line)]


def test_nothing_odd_nothing_said(tmp_path):
    _, notes, passed = score(tmp_path, small([box()]), [row()])
    assert notes == [] and not passed


def test_a_crowd_that_is_a_text_counts_as_what_it_says(tmp_path):
    ours, _, _ = score(tmp_path, small([box(iscrowd="0")]), [row()])
    assert ours["AP"] == pytest.approx(1)
    ours, _, _ = score(tmp_path, small([box(iscrowd="1")]), [row()])
    assert np.isnan(ours["AP"])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (box(bbox=[1, 2, 3]), r"annotation 2 of the list: got bbox \[1, 2, 3\]"),
        (box(bbox=[1, 2, 3, "4"]), "finite numbers"),
        (box(area="12"), "got area '12'"),
        (box(iscrowd="maybe"), "got iscrowd 'maybe'"),
        ({"id": 3}, "expected image_id and category_id"),
        (box(image_id=[1]), "expected image_id and category_id"),
    ],
)
def test_an_annotation_that_cannot_be_scored_is_named(bad, message, tmp_path):
    with pytest.raises(UserError, match=message):
        score(tmp_path, small([box(), bad]), [])


@pytest.mark.parametrize("metric", [COCOMap, VOCMap])
def test_boxes_outside_their_image_count_in_every_metric(metric, tmp_path):
    # one of two objects is found: AP is .5 or COCO's 51 of 101 points
    truth = small([box(), box(id=2, image_id=2, bbox=[300, 300, 9, 9])])
    ours, _, _ = score(tmp_path, truth, [row()], metric)
    assert ours[metric.primary] == pytest.approx(0.5, abs=0.005)


def test_names_that_contradict_their_ids_are_one_line(tmp_path):
    rows = [row(category_name="cat"), row(category_name="dog"), row(category_name="dog")]
    _, notes, _ = score(tmp_path, small([box()]), rows)
    assert notes == [
        "names and ids of classes are in conflict in 2 rows, the ids count: row 2 calls "
        "category_id 5 'dog', the ground truth 'cat'"
    ]


def test_classes_that_are_chosen_score_as_pycocotools_scores_those_categories(tmp_path):
    truth = small([box(), box(id=2, image_id=2, category_id=0)])
    ours, notes, passed = score(tmp_path, truth, [row(), row(category_id=0)], classes=["cat"])
    assert ours["AP"] == pytest.approx(1) and notes == [] and passed == {0: 1}
    with pytest.raises(UserError, match="no category 'cta'; did you mean 'cat'"):
        score(tmp_path, truth, [row()], classes=["cta"])


def test_no_images_and_no_split(tmp_path):
    (tmp_path / "gt.json").write_text(json.dumps(small([box()])))
    with pytest.raises(UserError, match="reads no images"):
        COCOTruth(annotations=str(tmp_path / "gt.json")).image(0)
    with pytest.raises(UserError, match="scored whole"):
        COCOTruth(annotations=str(tmp_path / "gt.json"), split="test")


@pytest.mark.parametrize("content", ["[]", '{"images": []}', "3"])
def test_another_file_is_refused(content, tmp_path):
    (tmp_path / "gt.json").write_text(content)
    with pytest.raises(UserError, match="expected lists under images, annotations, categories"):
        COCOTruth(annotations=str(tmp_path / "gt.json"))


def test_an_image_file_is_refused_in_plain_words(tmp_path):
    (tmp_path / "gt.json").write_bytes(b"\xff\xd8\xff\xe0 JFIF")
    with pytest.raises(UserError, match="got binary data, expected a JSON file"):
        COCOTruth(annotations=str(tmp_path / "gt.json"))
