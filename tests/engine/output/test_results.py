import csv
import json

import cv2
import numpy as np
import pytest
import torch

from classify.datasets.csv_labels import CSVLabels
from detect.datasets.csv import CSV
from detect.datasets.yolo import YOLO
from engine.data.files import Files
from engine.data.image import read_rgb, write_rgb
from engine.errors import UserError
from engine.output.predictions import Category
from engine.output.results import Results, check_boxes, check_save
from engine.record import Meta
from engine.structures import BACKGROUND, Objects

CLASSES = ["ant", 'bee, "wild"']
CATEGORIES = [Category(i, name) for i, name in enumerate(CLASSES, 5)]
NAMES = ["images/a.b.jpg", "images/train/c.png", "images/train/d.png"]
SIZE = 70, 90  # height, width


@pytest.fixture
def data(tmp_path):
    """Three images, two of them in a folder below."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        write_rgb(str(tmp_path / name), rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8))
    return Files(source=str(tmp_path / "images"))


def found():
    """Three boxes of the first image in odd numbers, one of the second without area, none more."""
    boxes = [[0.1, 0.2, 33.3, 44.4], [1 / 3, 0, 90, 70], [12.345678, 1e-3, 60, 7], [9, 9, 9, 30]]
    return Objects(torch.tensor(boxes), torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 0, 1]),
                   torch.tensor([0.9, 0.5, 0.123456789, 0.7]))  # fmt: skip


def write(data, folder, save, objects=None, threads=2, has_boxes=True):
    metas = [Meta(i, data.ids[i], str(data.paths[i]), SIZE, np.eye(2, 3)) for i in range(3)]
    with Results(folder=folder, save=save, categories=CATEGORIES, has_boxes=has_boxes, data=data,
                 image=data.image, show=0.4, size=SIZE, threads=threads) as results:  # fmt: skip
        each = results.add(found() if objects is None else objects, metas)
    assert len(each) == 3 and results.images == 3
    return results


def boxes_of_json(folder):
    """Boxes xyxy in float32 of each image, and its labels, by its name."""
    rows = json.loads((folder / "predictions.json").read_text())
    boxes: dict = {}
    for row in rows:
        x, y, w, h = row["bbox"]
        boxes.setdefault(row["file_name"], []).append(
            (*np.float32([x, y, x + w, y + h]).tolist(), row["category_id"] - 5)
        )
    return boxes


def boxes_of_reader(read):
    rows = [read.record(i) for i in range(len(read))]
    return {
        r.path.rsplit("/", 1)[1]: [
            (*box, label) for box, label in zip(r.boxes.tolist(), r.labels.tolist(), strict=True)
        ]
        for r in rows
        if len(r.labels)
    }


def test_the_csv_is_read_back_to_the_bit(data, tmp_path):
    write(data, tmp_path / "out", ["json", "csv"])
    table = tmp_path / "out/predictions.csv"
    read = CSV(root=str(tmp_path / "images"), split="train", annotations=str(table),
               classes=CLASSES, splits=str(lists(tmp_path)))  # fmt: skip
    assert boxes_of_reader(read) == boxes_of_json(tmp_path / "out")
    assert len(read) == 3  # the image without an object too
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert list(rows[0]) == ["filename", "width", "height", "class", "xmin", "ymin", "xmax",
                             "ymax", "score"]  # fmt: skip
    assert [float(row["score"] or 0) for row in rows] == [*found().scores.tolist(), 0]


def lists(root):
    """A folder of lists that name all images as train."""
    (root / "lists").mkdir()
    names = "\n".join(name.removeprefix("images/") for name in NAMES)
    (root / "lists/train.txt").write_text(names)
    (root / "lists/val.txt").write_text("a.b.jpg")  # else some of train were held out
    return root / "lists"


def test_yolos_labels_are_read_back_to_the_bit(data, tmp_path):
    out = tmp_path / "out"
    write(data, out, ["json", "yolo"])
    (out / "labels").rename(tmp_path / "labels")
    (out / "classes.txt").rename(tmp_path / "classes.txt")
    (tmp_path / "images/train").rename(tmp_path / "images/more")  # no split of its own
    (tmp_path / "labels/train").rename(tmp_path / "labels/more")
    read = YOLO(root=str(tmp_path), split="more")
    assert read.classes == CLASSES
    expected = boxes_of_json(out)
    assert boxes_of_reader(read) == {"c.png": expected["c.png"]}
    rows = [line.split() for line in (tmp_path / "labels/a.b.txt").read_text().splitlines()]
    assert [(int(row[0]), float(row[5])) for row in rows] == [
        (0, float(np.float32(0.9))), (1, 0.5), (1, float(np.float32(0.123456789)))
    ]  # fmt: skip
    for (*box, _), row in zip(expected["a.b.jpg"], rows, strict=True):
        cx, cy, w, h = map(float, row[1:5])
        corners = [(cx - w / 2) * 90, (cy - h / 2) * 70, (cx + w / 2) * 90, (cy + h / 2) * 70]
        assert corners == pytest.approx(box, abs=1e-12)
    assert (tmp_path / "labels/more/d.txt").read_text() == ""


def test_crops_are_the_pixels_of_their_boxes(data, tmp_path):
    write(data, tmp_path / "out", ["crops"])
    files = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.jpg")
    )
    assert files == ["crops/ant/a.b_1.jpg", "crops/ant/c_1.jpg", "crops/bee_wild_/a.b_2.jpg"]
    crop = read_rgb(str(tmp_path / "out" / files[0]))
    assert crop.shape == (45, 34, 3)  # columns 0 to 33, rows 0 to 44, in whole pixels
    part = data.image(0)[:45, :34]
    assert abs(cv2.blur(crop, (9, 9)).astype(int) - cv2.blur(part, (9, 9))).mean() < 12
    assert read_rgb(str(tmp_path / "out" / files[1])).shape == (21, 1, 3)  # a box without width


@pytest.mark.parametrize("threads", [0, 3])
def test_threads_write_the_same_images(data, tmp_path, threads):
    write(data, tmp_path / "out", ["images", "crops"], threads=threads)
    write(data, tmp_path / "alone", ["images", "crops"], threads=0)
    paths = sorted(p.relative_to(tmp_path / "alone") for p in (tmp_path / "alone").rglob("*.jpg"))
    assert len(paths) == 6
    for path in paths:
        assert (tmp_path / "out" / path).read_bytes() == (tmp_path / "alone" / path).read_bytes()


def test_boxes_of_no_class_are_of_the_class_object(data, tmp_path):
    alone = found()
    alone.labels[:] = BACKGROUND
    write(data, tmp_path / "out", ["csv", "yolo", "crops"], alone)
    assert (tmp_path / "out/classes.txt").read_text().splitlines() == [*CLASSES, "object"]
    assert (tmp_path / "out/labels/a.b.txt").read_text().startswith("2 ")
    assert len(list((tmp_path / "out/crops/object").iterdir())) == 3
    assert "object" in (tmp_path / "out/predictions.csv").read_text()


def test_a_classifiers_classes_are_rows_without_boxes(data, tmp_path):
    whole = torch.tensor([0.0, 0, 90, 70]).repeat(3, 1)
    best = Objects(whole, torch.tensor([1, 0, 0]), torch.tensor([0, 0, 1]),
                   torch.tensor([0.75, 0.25, 1]))  # fmt: skip
    write(data, tmp_path / "out", ["csv"], best, has_boxes=False)
    table = tmp_path / "out/predictions.csv"
    assert table.read_text().splitlines()[0] == "filename,label,score"
    text = "".join(table.read_text().splitlines(keepends=True)[:-1])  # d.png has no class
    table.write_text(text)
    read = CSVLabels(root=str(tmp_path / "images"), split="train", annotations=str(table),
                     classes=CLASSES, splits=str(lists(tmp_path)), on_error="skip")  # fmt: skip
    assert {r.path[-5:]: sorted(r.labels) for r in map(read.record, range(2))} == {
        "b.jpg": [0, 1], "c.png": [0]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("save", "message"),
    [
        ([], r"save=\[\]: nothing would be written; expected some of images, json, csv, yolo"),
        (["jsn"], r"save=\[jsn\]: expected some of images, .*; did you mean 'json'\?"),
    ],
)
def test_what_cannot_be_saved_is_refused(save, message):
    with pytest.raises(UserError, match=message):
        check_save(save)


def test_a_classifier_has_no_boxes_to_save():
    check_boxes(["images", "json", "csv"], has_boxes=False)
    with pytest.raises(UserError, match=r"save=\[yolo,crops\]: made of boxes, .* whole images; "):
        check_boxes(["yolo", "json", "crops"], has_boxes=False)


def test_two_images_of_one_label_file_are_refused(data, tmp_path):
    write_rgb(str(tmp_path / "images/train/c.jpg"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(
        UserError, match=r"labels/train/c\.txt, for both train/c\.jpg and train/c\.png"
    ):
        write(Files(source=str(tmp_path / "images")), tmp_path / "out", ["yolo"])


def test_an_error_of_a_thread_ends_the_run_and_leaves_no_table(data, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/images").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*images"):
        write(data, tmp_path / "out", ["images", "json", "csv"])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["images"]
