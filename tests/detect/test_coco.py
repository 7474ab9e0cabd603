import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO as PycocotoolsCOCO

from detect.datasets.coco import COCO
from engine.errors import UserError


def truth():
    """Two images and three annotations, all ids out of order and with gaps."""
    return {
        "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "sub/a.jpg"}],
        "categories": [{"id": 90, "name": "dog"}, {"id": 5, "name": "cat"}],
        "annotations": [
            {"id": 11, "image_id": 7, "category_id": 5, "bbox": [1, 2, 3.5, 4], "area": 9},
            {"id": 12, "image_id": 3, "category_id": 90, "bbox": [0, 0, 2, 3], "iscrowd": 1},
            {"id": 13, "image_id": 7, "category_id": 90, "bbox": [5, 5, 1, 1], "iscrowd": 0},
        ],
    }


def load(folder, data, **options):
    path = folder / "truth.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return COCO(annotations=str(path), **options)


def test_classes_and_images_stand_in_the_order_of_their_ids(tmp_path):
    dataset = load(tmp_path, truth(), images=str(tmp_path))
    assert (dataset.classes, dataset.categories) == (["cat", "dog"], [5, 90])
    assert (len(dataset), dataset.report) == (2, [])
    records = [dataset.record(i) for i in range(2)]
    assert [r.id for r in records] == [3, 7]
    assert [r.path for r in records] == [str(tmp_path / "sub/a.jpg"), str(tmp_path / "b.jpg")]


def test_boxes_are_corners_and_missing_fields_are_filled(tmp_path):
    first, second = (load(tmp_path, truth()).record(i) for i in range(2))
    assert first.path == "sub/a.jpg"
    assert first.labels.tolist() == [1]
    assert (first.ignore.tolist(), first.area.tolist()) == ([True], [6])
    assert second.labels.tolist() == [0, 1]
    assert second.boxes.tolist() == [[1, 2, 4.5, 6], [5, 5, 6, 6]]
    assert second.ignore.tolist() == [False, False]
    assert second.area.tolist() == [9, 1]
    types = [getattr(second, name).dtype for name in ("labels", "boxes", "ignore", "area")]
    assert types == [np.int64, np.float32, bool, np.float32]


def test_an_image_without_annotations_is_kept(tmp_path):
    record = load(tmp_path, {**truth(), "annotations": []}).record(0)
    assert (record.boxes.shape, record.labels.shape) == ((0, 4), (0,))


@pytest.mark.parametrize("box", [[1, 1, 0, 5], [1, 1, 5, 0], [1, 1, 0, 0]])
def test_a_box_without_area_is_kept_ignored_and_reported(tmp_path, box):
    data = truth()
    data["annotations"][0]["bbox"] = box
    dataset = load(tmp_path, data)
    assert dataset.record(1).ignore.tolist() == [True, False]
    assert dataset.report == [
        {
            "file": str(tmp_path / "truth.json"),
            "row": 11,
            "reason": f"box {box} has no area",
            "action": "ignored",
        }
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bbox", [1, 1, -2, 5]),
        ("bbox", [1, 1, 2, float("nan")]),
        ("bbox", [1, 1, 2]),
        ("bbox", [1, 1, 2, "3"]),
        ("bbox", None),
        ("area", float("nan")),
        ("image_id", 8),
        ("image_id", [7]),
        ("category_id", 1),
    ],
)
def test_a_bad_value_names_file_and_annotation(tmp_path, key, value):
    data = truth()
    data["annotations"][2][key] = value
    with pytest.raises(UserError, match=rf"truth\.json, annotation 13: got {key} .*, expected"):
        load(tmp_path, data)


@pytest.mark.parametrize("key", ["bbox", "image_id", "category_id"])
def test_a_missing_key_is_named(tmp_path, key):
    data = truth()
    del data["annotations"][1][key]
    with pytest.raises(UserError, match=rf"truth\.json, annotation 12: got .*have '{key}'"):
        load(tmp_path, data)


@pytest.mark.parametrize("section", ["images", "categories"])
def test_ids_are_whole_numbers_and_used_once(tmp_path, section):
    data = truth()
    for wrong in (data[section][1]["id"], "seven"):
        data[section][0]["id"] = wrong
        with pytest.raises(UserError, match=f"id {wrong!r}, expected a whole number, used once"):
            load(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", r"truth\.json: got no JSON .* expected a JSON file"),
        ("[]", r"truth\.json: got list, expected lists under images, annotations, categories"),
        ('{"images": []}', r"truth\.json: got \['images'\], expected lists under"),
        ('{"images": [1], "annotations": [], "categories": []}', r"got 1, .* have 'id'"),
    ],
)
def test_another_file_is_refused(tmp_path, data, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, data)


def test_missing_paths_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"gone\.json: No such file .* check the path"):
        COCO(annotations=str(tmp_path / "gone.json"))
    with pytest.raises(UserError, match=r"images: got .*gone, expected a folder"):
        load(tmp_path, truth(), images=str(tmp_path / "gone"))
    with pytest.raises(UserError, match="set images"):
        load(tmp_path, truth()).image(0)


def test_real_data(shared_data):
    # 80 images, 815 annotations of which 11 are crowds, 80 categories with ids up to 90.
    folder = shared_data / "coco_tiny"
    file = next(folder.glob("annotations/*val*.json"))
    dataset = COCO(annotations=str(file), images=str(folder / "val2017"))
    records = [dataset.record(i) for i in range(len(dataset))]
    assert (len(dataset), len(dataset.classes), dataset.categories[-1]) == (80, 80, 90)
    assert sum(len(r.labels) for r in records) == 815
    assert sum(r.ignore.sum() for r in records) == 11
    pixels = dataset.image(0)
    assert (pixels.ndim, pixels.shape[2], pixels.dtype) == (3, 3, np.uint8)


@pytest.mark.parametrize(
    ("section", "change", "row", "reason"),
    [
        ("annotations", {"bbox": [1, 1, -2, 5]}, 11, "got bbox"),
        ("annotations", {"image_id": 8}, 11, "got image_id 8"),
        ("annotations", {"category_id": 1}, 11, "got category_id 1"),
        ("images", {"file_name": "../../etc/passwd"}, 7, "leaves the folder of the images"),
        ("images", {"file_name": "/etc/passwd"}, 7, "leaves the folder of the images"),
    ],
)
def test_a_bad_row_is_left_out_alone(tmp_path, section, change, row, reason):
    data = truth()
    data[section][0] |= change
    dataset = load(tmp_path, data, on_error="skip")
    first = dataset.report[0]
    assert (first["row"], first["action"]) == (row, "left out") and reason in first["reason"]
    # An image takes its annotations along, each of which is told of.
    assert len(dataset.report) == (1 if section == "annotations" else 3)
    records = {r.id: r.labels.tolist() for r in map(dataset.record, range(len(dataset)))}
    assert records == ({3: [1], 7: [1]} if section == "annotations" else {3: [1]})


@pytest.mark.parametrize("bad", [{"id": 7.5}, {"id": 3}, {"id": "seven"}, {"id": True}])
def test_an_image_without_an_id_of_its_own_is_left_out(tmp_path, bad):
    data = truth()
    data["images"][1 if bad == {"id": 3} else 0] |= bad
    data["images"] += [{"id": 3, "file_name": "c.jpg"}] if bad == {"id": 3} else []
    dataset = load(tmp_path, data, on_error="skip")
    assert dataset.report[0]["reason"].startswith(f"got id {bad['id']!r}, expected a whole number")


def test_classes_choose_categories_and_their_order(tmp_path):
    dataset = load(tmp_path, truth(), classes=["dog", "cat"])
    assert (dataset.classes, dataset.categories) == (["dog", "cat"], [90, 5])
    assert [dataset.record(i).labels.tolist() for i in range(2)] == [[0], [1, 0]]
    few = load(tmp_path, truth(), classes=["cat"], on_error="skip")
    assert [few.record(i).labels.tolist() for i in range(2)] == [[], [0]]
    with pytest.raises(UserError, match=r"has no category 'cats'; did you mean 'cat'\?"):
        load(tmp_path, truth(), classes=["cats"])


def test_classes_leave_the_objects_of_others_out_aloud(tmp_path):
    few = load(tmp_path, truth(), classes=["cat"])
    assert [few.record(i).labels.tolist() for i in range(2)] == [[], [0]]
    assert few.notes == ["2 objects are of categories that dataset.classes leaves out"]


def test_of_two_categories_of_a_name_the_used_one_counts(tmp_path):
    data = truth()
    data["categories"].append({"id": 0, "name": "cat"})  # as Roboflow writes a supercategory
    dataset = load(tmp_path, data)
    assert (dataset.classes, dataset.categories) == (["cat", "dog"], [5, 90])
    assert "categories 0, 5 are all named 'cat'" in dataset.notes[0]
    data["annotations"][0]["category_id"] = 0
    data["annotations"].append(dict(data["annotations"][0], id=20, category_id=5))
    with pytest.raises(UserError, match="category 5: 'cat' names another one too: rename"):
        load(tmp_path, data)


@pytest.mark.parametrize("name", ["b.jpg", "./b.jpg", "sub//a.jpg"])
def test_an_image_under_two_ids_is_refused(tmp_path, name):
    data = truth()
    data["images"].append({"id": 9, "file_name": name})
    with pytest.raises(UserError, match=r"image 9: file_name '.*' is that of image . too"):
        load(tmp_path, data)
    assert len(load(tmp_path, data, on_error="skip")) == 2


def test_a_file_a_split_by_its_name(tmp_path):
    for split, number in (("train", 7), ("val", 3)):
        data = truth()
        data["images"] = [row for row in data["images"] if row["id"] == number]
        rows = data["annotations"]
        data["annotations"] = [row for row in rows if row["image_id"] == number]
        (tmp_path / f"of_{split}.json").write_text(json.dumps(data))
    files = {split: str(tmp_path / f"of_{split}.json") for split in ("train", "val")}
    found = [COCO(annotations=files, split=split) for split in ("train", "val")]
    assert [data.record(0).id for data in found] == [7, 3]
    with pytest.raises(UserError, match="no split 'test' in .*there are train, val"):
        COCO(annotations=files, split="test")


def test_a_name_never_leads_out_of_the_folder(tmp_path):
    images = tmp_path / "images"
    (images / "x").mkdir(parents=True)
    data = truth()
    data["images"] = [{"id": i, "file_name": f"{i}.jpg"} for i in range(1, 31)]
    data["annotations"] = []
    for name in [*(f"{i}.jpg" for i in range(1, 31)), "x/out.jpg"]:
        (images / name).touch()
    (tmp_path / "x").mkdir()
    (tmp_path / "x/out.jpg").touch()
    data["images"].append({"id": 31, "file_name": "../x/out.jpg"})
    found = load(tmp_path, data, images=str(images))
    assert found.record(30).path == str(images / "x/out.jpg")
    data["images"][-1]["file_name"] = "../y/gone.jpg"
    with pytest.raises(UserError, match="leaves the folder of the images"):
        load(tmp_path, data, images=str(images))


def test_repeated_rows_are_reported_and_kept(tmp_path):
    data = truth()
    data["annotations"].append(dict(data["annotations"][0], id=21))
    dataset = load(tmp_path, data)
    (row,) = dataset.report
    assert row["reason"] == "box 1 2 4.5 6 of class 'cat' is there more than once"
    assert row["file"].endswith("b.jpg") and len(dataset.record(1).labels) == 3


def test_rows_as_columns_say_the_same_as_rows_one_by_one(tmp_path):
    # 3000 rows alike are read as columns; a key with text in the first makes JSON of all.
    rng = np.random.default_rng(0)
    data = truth() | {
        "annotations": [
            {
                "id": i + 1,
                "image_id": int(rng.choice([7, 3])),
                "category_id": int(rng.choice([90, 5, 4], p=[0.5, 0.499, 0.001])),
                "bbox": rng.uniform(-1, 90, 4).round(2).clip(0 if i % 100 else -9).tolist(),
                "area": round(float(rng.uniform(0, 9)), 3),
                "iscrowd": int(rng.random() < 0.1),
            }
            for i in range(3000)
        ]
    }
    fast = load(tmp_path, data, on_error="skip")
    data["annotations"][0]["note"] = "text"
    slow = load(tmp_path, data, on_error="skip")
    # Reasons show numbers as they were written, whole or not.
    assert [(e["row"], e["action"]) for e in fast.report] == [
        (e["row"], e["action"]) for e in slow.report
    ]
    for i in range(2):
        one, other = fast.record(i), slow.record(i)
        for name in ("labels", "boxes", "ignore", "area"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


def test_a_file_nested_without_end_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"truth\.json: got no JSON"):
        load(tmp_path, '{"images": ' + "[" * 100_000)


def test_a_root_or_a_file(tmp_path):
    with pytest.raises(UserError, match="dataset.annotations=FILE: set one of them"):
        COCO(split="train")
    with pytest.raises(UserError, match=r"expected annotations/instances_\*\.json or "):
        COCO(root=str(tmp_path), split="train")


@pytest.mark.parametrize(("split", "count", "crowd"), [("train", 705, 6), ("val", 815, 11)])
def test_the_official_layout_beside_pycocotools(shared_data, split, count, crowd):
    root = shared_data / "coco_tiny"
    dataset = COCO(root=str(root), split=split)
    with contextlib.redirect_stdout(io.StringIO()):
        judge = PycocotoolsCOCO(str(root / f"annotations/instances_{split}2017.json"))
    assert [dataset.record(i).id for i in range(len(dataset))] == sorted(judge.getImgIds())
    seen = crowds = 0
    for i in range(len(dataset)):
        record = dataset.record(i)
        rows = judge.loadAnns(judge.getAnnIds(imgIds=[record.id]))
        x, y, w, h = np.array([row["bbox"] for row in rows]).reshape(-1, 4).T
        assert np.array_equal(record.boxes, np.stack([x, y, x + w, y + h], 1).astype(np.float32))
        assert [dataset.categories[k] for k in record.labels] == [r["category_id"] for r in rows]
        assert record.ignore.tolist() == [bool(r["iscrowd"]) for r in rows]
        assert record.size == dataset.image(i).shape[:2]
        seen, crowds = seen + len(rows), crowds + int(record.ignore.sum())
    assert (seen, crowds) == (count, crowd) and dataset.report == []
