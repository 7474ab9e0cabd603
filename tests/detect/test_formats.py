"""What is alike in every format of boxes: the records, the views, the splits."""

import numpy as np
import pytest
import sets

from detect.datasets.boxes import OUTSIDE
from detect.datasets.coco import COCO
from detect.datasets.csv import CSV
from detect.datasets.cvat import CVAT
from detect.datasets.voc import VOC
from detect.datasets.yolo import YOLO
from engine.errors import UserError
from engine.structures import Objects

FORMATS = {
    "voc": (VOC, sets.write_voc, {}),
    "coco": (COCO, sets.write_coco, {}),
    "yolo": (YOLO, sets.write_yolo, {}),
    "cvat": (CVAT, sets.write_cvat, {}),
    "csv": (CSV, sets.write_csv, {"columns": {"width": "width", "height": "height"}}),
}
BOTH = {"train": ["a", "b", "c"], "val": ["c"]}
every_format = pytest.mark.parametrize("name", FORMATS)


def load(name, folder, names=BOTH, truth=sets.TRUTH, **options):
    make, write, more = FORMATS[name]
    if not (folder / name).exists():
        write(folder / name, names, truth)
    return make(root=str(folder / name), **more, **options)


def stem(record):
    return record.path.rpartition("/")[2].split(".")[0]


@every_format
def test_the_same_truth_reads_equal(tmp_path, name):
    data = load(name, tmp_path, split="train")
    assert data.classes == sets.CLASSES and data.report == []
    records = [data.record(i) for i in range(len(data))]
    assert [stem(r) for r in records] == ["a", "b", "c"]
    for record, rows in zip(records, sets.TRUTH.values(), strict=True):
        assert record.boxes is not None and record.ignore is not None
        # Exact: sixty-fourths and forty-eighths of whole pixels are within float32's rounding.
        assert record.boxes.tolist() == [list(row[1:]) for row in rows]
        assert record.boxes.shape == (len(rows), 4)
        assert [data.classes[i] for i in record.labels] == [row[0] for row in rows]
        assert not record.ignore.any() and record.size == (sets.HEIGHT, sets.WIDTH)
        types = [getattr(record, key).dtype for key in ("labels", "boxes", "ignore")]
        assert types == [np.int64, np.float32, bool]
    assert data.image(2)[0, 0].tolist() == [80, 80, 80]
    assert [stem(load(name, tmp_path, split="val").record(0))] == ["c"]


@every_format
def test_views(tmp_path, name):
    largest = load(name, tmp_path, split="train", view="largest").record(0)
    assert largest.labels.tolist() == [0] and largest.boxes.tolist() == [[0, 0, 64, 48]]
    many = load(name, tmp_path, split="train", view="multilabel").record(0)
    assert many.labels.tolist() == [0, 2] and many.boxes is None
    assert many.size == (sets.HEIGHT, sets.WIDTH)


@every_format
def test_a_share_is_held_out_where_there_is_no_val(tmp_path, name):
    truth = {f"p{i:02d}": [("cat" if i < 12 else "bee", 1, 1, 9, 9)] for i in range(20)}
    truth["p00"] += [("bee", 2, 2, 5, 5)]  # two classes, so not by class
    options = {"names": {"train": list(truth)}, "truth": truth}

    def parts(**more):
        both = [load(name, tmp_path, **options, split=s, **more) for s in ("train", "val")]
        assert both[0].notes == [] and len(both[1].notes) == 1
        return [[stem(d.record(i)) for i in range(len(d))] for d in both], both[1].notes[0]

    (train, val), note = parts(val_share=0.25)
    assert sorted(train + val) == list(truth) and len(val) == 5
    assert note == (
        "no val split: 5 of the 20 training images are held out for validation "
        "(dataset.val_share=0.25)"
    )
    assert parts(val_share=0.25)[0] == [train, val]
    assert parts(val_share=0.25, seed=1)[0] != [train, val]
    with pytest.raises(UserError, match=r"no split 'val' in .*there are train"):
        load(name, tmp_path, split="val", val_share=0)


@every_format
def test_the_share_is_of_each_class_where_an_image_has_one(tmp_path, name):
    truth = {f"p{i:02d}": [("cat" if i < 15 else "bee", 1, 1, 9, 9)] for i in range(20)}
    val = load(name, tmp_path, {"train": list(truth)}, truth, split="val", val_share=0.2)
    labels = [val.classes[val.record(i).labels[0]] for i in range(len(val))]
    assert sorted(labels) == ["bee", "cat", "cat", "cat"]


@every_format
def test_a_missing_split_lists_those_there(tmp_path, name):
    with pytest.raises(UserError, match=r"no split 'vall' in .*there are .*val.*mean 'val'\?"):
        load(name, tmp_path, split="vall")


@every_format
def test_a_folder_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(UserError, match=r"dataset\.root=.*nowhere: no such folder"):
        FORMATS[name][0](root=str(tmp_path / "nowhere"), split="train")


@every_format
def test_a_share_is_below_one(tmp_path, name):
    with pytest.raises(UserError, match="val_share is 1, expected 0 <= val_share < 1"):
        load(name, tmp_path, split="val", val_share=1)


@every_format
@pytest.mark.parametrize("split", ["train", "val"])
def test_boxes_that_leave_or_have_no_area_are_told(tmp_path, name, split):
    truth = {"a": [("cat", 5, 1, 5, 8), ("cat", 50, 1, 80, 8), ("cat", 1, 1, 9, 9)]}
    truth["a"].append(("cat", 70, 1, 80, 8))
    truth |= {"b": truth["a"]}
    splits = {"train": ["a"], "val": ["b"]}
    data = load(name, tmp_path, splits, truth, split=split)
    assert [e["action"] for e in data.report] == ["ignored", "kept", OUTSIDE]
    assert "has no area" in data.report[0]["reason"]
    assert "leaves the image" in data.report[1]["reason"]
    assert "lies outside" in data.report[2]["reason"]
    record = data.record(0)
    assert record.boxes.tolist() == [[5, 1, 5, 8], [50, 1, 80, 8], [1, 1, 9, 9], [70, 1, 80, 8]]
    judged = Objects.from_record(record, data.image(0).shape[:2])
    assert judged.ignore.tolist() == [True, False, False, True]


def in_one_piece(name, folder):
    """Arguments of a set of a, b, c, none of which has a split of its own."""
    if name == "coco":
        sets.write_coco(folder, {"train": list("abc")})
        file = folder / "annotations/instances_train2017.json"
        return COCO, {"annotations": str(file), "images": str(folder / "train2017")}
    if name == "csv":
        sets.write_csv(folder, {"train": list("abc")})
        return CSV, {"root": str(folder), "annotations": str(folder / "train.csv")}
    sets.write_yolo(folder, {".": list("abc")})
    return YOLO, {"root": str(folder)}


@pytest.mark.parametrize("name", ["coco", "yolo", "csv"])
def test_lists_split_a_set_in_one_piece(tmp_path, name):
    make, options = in_one_piece(name, tmp_path / "set")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("c\n\na.png\n")
    (lists / "test.txt").write_text("b\nz\nb\n")
    train = make(**options, splits=str(lists), split="train", val_share=0)
    assert [stem(train.record(i)) for i in range(2)] == ["c", "a"]
    assert train.record(1).labels.tolist() == [2, 0]
    with pytest.raises(UserError, match=r"test\.txt, row 2: the set has no image 'z'; mend it"):
        make(**options, splits=str(lists), split="test")
    test = make(**options, splits=str(lists), split="test", on_error="skip")
    assert [stem(test.record(i)) for i in range(len(test))] == ["b"]
    assert [(e["row"], e["action"]) for e in test.report] == [(2, "left out"), (3, "left out")]
    val = make(**options, splits=str(lists), split="val", val_share=0.5)
    assert len(val) == 1 and "1 of the 2 training images" in val.notes[0]
    with pytest.raises(UserError, match=r"no split 'test' in .*dataset\.splits=FOLDER"):
        make(**options, split="test")
    with pytest.raises(UserError, match=r"dataset\.splits=.*empty: no \*\.txt in it"):
        make(**options, splits=str(tmp_path / "empty"), split="test")


def test_lists_are_not_for_a_set_with_splits(tmp_path):
    with pytest.raises(UserError, match="has its own: train, val"):
        load("yolo", tmp_path, split="train", splits=str(tmp_path))
