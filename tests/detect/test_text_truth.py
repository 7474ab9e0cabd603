"""Scoring text files against text files: the same numbers as of COCO files, and published ones."""

import json

import numpy as np
import pytest
import sets
from command_line import ended, run

from detect.datasets.coco_truth import COCOTruth
from detect.datasets.text_truth import TextTruth
from detect.metrics.coco_map import COCOMap
from detect.metrics.voc_map import VOCMap
from engine.builders import conformance
from engine.errors import UserError
from engine.output import predictions, read_predictions

NAMES = ["cat", "traffic light", "dog"]
SIDE = {f"i{n}": (48, 64) for n in range(6)}  # (height, width), as of the images of `sets`
FORMS = ["corners", "xywh", "yolo", "relative"]


def made():
    """A COCO file, and its results: of each image objects, detections of them, and strays."""
    rng = np.random.default_rng(4)
    images = [{"id": n, "file_name": f"i{n}.png", "height": 48, "width": 64} for n in range(6)]
    truth, rows = [], []
    for image in range(5):  # the last one has no object
        for _ in range(4):
            x, y = rng.integers(0, 30, 2).tolist()
            w, h = rng.integers(3, 16, 2).tolist()
            box, category = [x, y, w, h], int(rng.integers(3))
            keys = {"image_id": image, "category_id": category, "bbox": box}
            crowd = int(rng.random() < 0.2)
            truth.append({**keys, "id": len(truth) + 1, "iscrowd": crowd, "area": w * h})
            moved = [v + d for v, d in zip(box, rng.integers(0, 2, 4).tolist(), strict=True)]
            rows += [{**keys, "bbox": moved, "score": round(float(rng.random()), 3)}] * (image != 3)
    rows.append({"image_id": 5, "category_id": 0, "bbox": [1, 1, 5, 5], "score": 0.99})
    categories = [{"id": n, "name": name} for n, name in enumerate(NAMES)]
    return {"images": images, "annotations": truth, "categories": categories}, rows


def columns(form, row):
    x, y, w, h = row["bbox"]
    box = {"corners": (x, y, x + w, y + h), "xywh": (x, y, w, h)}
    box = box.get(form, ((x + w / 2) / 64, (y + h / 2) / 48, w / 64, h / 48))
    score = (row["score"],) if "score" in row else ()
    shares = form in ("yolo", "relative")
    name = row["category_id"] if shares else NAMES[row["category_id"]]
    hard = ("difficult",) * row.get("iscrowd", 0)
    numbers = (*box, *score) if form == "yolo" else (*score, *box)
    return " ".join(map(str, (name, *numbers, *hard)))


def write(folder, form, rows, stems=()):
    """A text file of each image that has a row, and of these."""
    folder.mkdir()
    texts = {stem: [] for stem in stems}
    for row in rows:
        texts.setdefault(f"i{row['image_id']}", []).append(columns(form, row))
    for stem, lines in texts.items():
        (folder / f"{stem}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def score(data, path, metric=COCOMap, box=None, **options):
    conformance.check_object(data, "dataset")  # as the commands do
    found = read_predictions.read(path, data, predictions.categories(data), box)
    made = metric(classes=data.classes, **options)
    return read_predictions.score(data, made, found.table), found


def of_json(folder, metric, **options):
    for name, content in zip(("gt.json", "dt.json"), made(), strict=True):
        (folder / name).write_text(json.dumps(content))
    return score(COCOTruth(annotations=str(folder / "gt.json")), folder / "dt.json", metric)[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("metric", [COCOMap, VOCMap])
def test_coco_files_written_as_text_score_the_same(tmp_path, form, metric):
    expected = of_json(tmp_path, metric)
    assert 0.2 < expected[metric.primary] < 0.9
    truth, rows = made()
    images = sets.images(tmp_path / "images", SIDE)
    gts = write(tmp_path / "gts", form, truth["annotations"], SIDE)
    dets = write(tmp_path / "dets", form, rows)
    if form in ("yolo", "relative"):
        (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
        (gts / "i5.txt").unlink()  # YOLO has no file of an image without objects
    data = TextTruth(annotations=str(gts), box=form, images=str(images), classes=NAMES)
    numbers, found = score(data, dets, metric, form)
    assert numbers == pytest.approx(expected, abs=1e-12, nan_ok=True)
    if form == "xywh":
        assert np.array_equal([*numbers.values()], [*expected.values()], equal_nan=True)
    assert found.notes == ["1 of 6 images have no file: without detections"]


@pytest.mark.parametrize("form", FORMS)
def test_detections_in_text_files_of_a_coco_truth_score_as_its_results(tmp_path, form):
    expected = of_json(tmp_path, COCOMap)
    dets = write(tmp_path / "dets", form, made()[1])
    data = COCOTruth(annotations=str(tmp_path / "gt.json"))
    numbers, found = score(data, dets, box=form)
    assert numbers == pytest.approx(expected, abs=1e-12, nan_ok=True)
    order = "no classes.txt: classes count from 0 in the truth's order: 0 cat, 1 traffic light, 2 d"
    assert [note[:80] for note in found.notes[:-1]] == [order[:80]] * (form in FORMS[2:])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"iou": 0.1}, 0.3371980676),
        ({}, 0.2456866804),
        ({"rule": "11_point"}, 0.2683982683),
        ({"inclusive": False}, 0.2253968254),
        ({"iou": 0.5}, 0.0222222222),
    ],
)
def test_published_numbers(shared_data, options, expected):
    case = shared_data / "map_reference/voc_case_1"
    data = TextTruth(annotations=str(case / "gts"))
    numbers, _ = score(data, case / "dets", VOCMap, **{"iou": 0.3} | options)
    assert numbers["mAP"] == pytest.approx(expected, abs=1e-9)


def test_the_command_prints_a_published_number(shared_data, tmp_path):
    case = shared_data / "map_reference/voc_case_1"
    out = run("eval.py", f"truth={case}/gts", f"predictions={case}/dets", "metric=voc_map",
              "metric.iou=0.3", "report=false", "hydra.run.dir=out", cwd=tmp_path)  # fmt: skip
    assert "mAP                      0.245687\n" in out
    assert "rows class score x y w h, the only form that fits: box=xywh" in out
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert found["metrics"]["mAP"] == pytest.approx(0.2456866804, abs=1e-9)


def folder(path, **files):
    """Text files by their stems."""
    path.mkdir(parents=True)
    for stem, text in files.items():
        (path / f"{stem}.txt").write_text(text)
    return path


def read(path, **options):
    return TextTruth(annotations=str(path), **options)


def test_rows_that_fit_two_forms_are_not_guessed(tmp_path):
    gts = folder(tmp_path / "gts", a="cat 5 6 30 40\ndog 1 2 3 4\n")
    with pytest.raises(UserError) as caught:
        read(gts)
    assert str(caught.value) == (
        f"{gts}: the rows fit more than one form: set box=corners (class xmin ymin xmax ymax) or "
        "box=xywh (class x y w h); images=FOLDER may tell, by their sizes"
    )
    assert read(gts, box="corners").record(0).boxes.tolist() == [[5, 6, 30, 40], [1, 2, 3, 4]]
    assert read(gts, box="xywh").record(0).boxes.tolist() == [[5, 6, 35, 46], [1, 2, 4, 6]]
    with pytest.raises(UserError, match="box=corner: expected corners, xywh, .*mean 'corners'"):
        read(gts, box="corner")


def test_sizes_and_inverted_corners_tell_the_form(tmp_path):
    images = sets.images(tmp_path / "images", ["a"])  # 64 x 48
    found = folder(tmp_path / "1", a="cat 30 6 60 40\n")  # 30 + 60 is far outside
    data = read(found, images=str(images))
    assert data.record(0).boxes.tolist() == [[30, 6, 60, 40]]
    assert data.notes == ["rows class xmin ymin xmax ymax, the only form that fits: box=corners"]
    assert data.record(0).size == (48, 64) and data.image(0).shape == (48, 64, 3)
    data = read(folder(tmp_path / "2", a="cat 30 6 20 40\n"))  # 30 > 20: no corners
    assert data.record(0).boxes.tolist() == [[30, 6, 50, 46]]


def test_the_score_of_shares_is_last_or_behind_the_class(tmp_path):
    sets.write_coco(tmp_path, {"train": ["a"]})
    data = COCOTruth(annotations=str(tmp_path / "annotations/instances_train2017.json"))
    rows = {"yolo": "0 0.75 0.5 0.125 0.25 0.9", "relative": "0 0.9 0.75 0.5 0.125 0.25"}
    for form, row in rows.items():
        _, found = score(data, folder(tmp_path / form, a=row + "\n"))
        assert found.table.boxes.tolist() == [[44, 18, 8, 12]]
        assert found.table.scores.tolist() == [0.9] and f"box={form}" in found.notes[0]
    both = folder(tmp_path / "both", a="0 0.5 0.5 0.5 0.5 0.5\n")
    with pytest.raises(UserError, match=r"box=yolo \(class cx cy w h score\) or box=relative"):
        score(data, both)


def test_difficult_objects_do_not_count_and_words_make_a_class(tmp_path):
    gts = folder(tmp_path / "gts", a="traffic light 9 9 5 5\ncat 20 20 9 9 difficult\n", b="")
    data = read(gts)
    assert data.classes == ["cat", "traffic light"] and len(data) == 2
    assert data.record(0).ignore.tolist() == [False, True]
    assert len(data.record(1).labels) == 0
    dets = folder(tmp_path / "dets", a="cat .9 20 20 9 9\ntraffic light .8 9 9 5 5\n")
    numbers, found = score(data, dets, VOCMap)
    assert numbers == {"mAP": 1, "recall": 1, "AP/traffic light": 1}
    assert found.notes[-1] == "1 of 2 images have no file: without detections"


def test_detections_of_other_images_and_classes_are_counted(tmp_path):
    data = read(folder(tmp_path / "gts", a="cat 9 9 5 5\n"))
    dets = folder(tmp_path / "dets", a="cat .9 9 9 5 5\nbird .8 9 9 5 5\n", b="cat .9 9 9 5 5\n")
    _, found = score(data, dets)
    assert found.unknown == {"b": 1} and found.unlisted == {"bird": 1}
    assert len(found.table.image) == 1


def test_shares_need_images_and_their_bare_ones_are_scored(tmp_path):
    gts = folder(tmp_path / "gts", a="0 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.25 0.25\n")
    with pytest.raises(UserError, match=r"\(class cx cy w h\) need the .*sizes: set images=FOLDER"):
        read(gts)
    images = sets.images(tmp_path / "images", ["a", "b"])
    data = read(gts, images=str(images))
    assert data.ids == ["a", "b"] and data.classes == ["0", "2"]
    assert data.record(0).boxes.tolist() == [[16, 12, 48, 36], [24, 18, 40, 30]]
    assert data.notes[1] == f"1 of 2 images in {images} have no file in {gts}: without objects"
    with pytest.raises(UserError, match=r"a\.txt, row 2: class 2, expected 0 to 1"):
        read(gts, images=str(images), classes=["cat", "dog"])
    dets = folder(tmp_path / "dets", b="2 .5 .5 .5 .5 .9\n")
    numbers, found = score(data, dets, VOCMap, box="yolo")
    assert found.table.image.tolist() == [1] and found.table.labels.tolist() == [1]
    with pytest.raises(UserError, match="c.txt: no image c in"):
        (gts / "c.txt").write_text("")
        read(gts, images=str(images))


def test_classes_that_are_chosen_count_alone(tmp_path):
    gts = folder(tmp_path / "gts", a="cat 9 9 5 5\ndog 9 9 5 5\n")
    data = read(gts, classes=["cat"], box="xywh")
    assert len(data.record(0).labels) == 1
    assert data.notes == [
        "objects of classes that dataset.classes leaves out (dog): 1; they are not scored"
    ]


WRONG = {
    "cat 1 2 3\n": "row 1: 4 values, expected a class and four numbers",
    "cat 9 9 5 5\ncat .9 1 2 3 4\n": "row 2: 6 values, expected a class and four numbers",
    "cat 1 2 x 4\n": "row 1: value 4 is 'x', expected a number",
    "cat 1 2 nan 4\n": "value 4 is 'nan'",
    "cat 9 9 5 -5\n": "corners are inverted, .*the rows fit neither form.* set box=corners .* or ",
    "cat 0.9 0.9 0.9 0.9\n": "as class cx cy w h the box leaves the image",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_row_is_named(tmp_path, text):
    with pytest.raises(UserError, match=WRONG[text]):
        read(folder(tmp_path / "gts", a=text))


def test_a_score_in_the_wrong_column_is_named(tmp_path):
    data = read(folder(tmp_path / "gts", a="cat 9 9 5 5\n"))
    last = folder(tmp_path / "last", a="cat 9 9 5 5 .9\n")
    for box in ("corners", "xywh", None):
        with pytest.raises(UserError, match="the score is no number from 0 to 1"):
            score(data, last, box=box)
    none = folder(tmp_path / "none", a="cat 9 9 5 5\n")
    with pytest.raises(UserError, match="5 values, expected a class and a score and four numbers"):
        score(data, none)


def test_predictions_that_are_not_there_are_named(tmp_path):
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth/a.txt").write_text("cat 1 1 5 5\n")
    done = ended("eval.py", "truth=truth", "predictions=dets", "metric=voc_map", cwd=tmp_path)
    assert done.stderr.startswith("error: predictions=dets: no such file or folder; expected ")


def test_a_folder_without_files_and_a_split_are_refused(tmp_path):
    folder(tmp_path / "gts/train", a="cat 9 9 5 5\n")
    with pytest.raises(UserError, match=r"gts: no \*\.txt in it, expected a text file an image"):
        read(tmp_path / "gts")
    with pytest.raises(UserError, match="scored whole"):
        read(tmp_path / "gts/train", split="val")
    with pytest.raises(UserError, match="must name each class once, got no name"):
        read(folder(tmp_path / "bare", a=""))
