import json

import cv2
import hydra
import numpy as np
import pytest
from command_line import ROOT, ended
from corpus import (
    CLASSES,
    JPEG,
    TURNED,
    annotation,
    corners,
    csv_rows,
    good_csv,
    good_folder,
    good_voc,
    good_yolo,
    thing,
    voc_image,
)
from pycocotools.coco import COCO as PycocotoolsCOCO

from detect.datasets.coco import COCO
from detect.datasets.yolo import YOLO
from engine.builders import parts
from engine.builders.splits import open_split
from engine.check.coco_writer import CocoWriter
from engine.check.report import write_report
from engine.check.scan import scan_images
from engine.check.statistics import suspicious_class_names, table
from engine.config import tools  # noqa: F401  # registers the schemas
from engine.config.schema import CONFIGS
from engine.console import format_table
from engine.errors import UserError


def configured(*overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("check", overrides=["loader.workers=0", *overrides])


def voc(root, *overrides):
    return configured(
        "dataset=voc", f"dataset.root={root}", f"dataset.classes={CLASSES}", *overrides
    )


def reported(cfg, folder):
    folder.mkdir()
    write_report(cfg, folder)
    return json.loads((folder / "data_report.json").read_text())


def command(*arguments, cwd):
    return ended("-m", "engine.check", *arguments, f"hydra.run.dir={cwd}/run", cwd=ROOT)


def test_statistics_of_a_split_by_hand(tmp_path):
    good_voc(tmp_path)
    # 48 x 36 pixels. Boxes 10 x 20, 20 x 10 and 20 x 20 (difficult), and an image without any.
    hard = thing("cat", corners(0, 0, 20, 20), more="<difficult>1</difficult>")
    things = thing("cat", corners(0, 0, 10, 20)), thing("dog", corners(0, 0, 20, 10)), hard
    voc_image(tmp_path, "three", xml=annotation(*things), split="test")
    voc_image(tmp_path, "none", xml=annotation(" "), split="test")
    found = reported(voc(tmp_path), tmp_path / "run")
    assert [found[split] for split in ("train", "val", "test", "no split")] == [[], [], [], []]
    assert found["stops"] is None
    facts = found["statistics"]["test"]
    assert facts["images"] == 2 and facts["without objects"] == 1
    assert facts["objects"] == 3 and facts["ignored"] == 1
    assert facts["classes"] == {"cat": 2, "dog": 1}
    assert facts["image width"] == [48] * 7 and facts["image height"] == [36] * 7
    # 0 and 3 objects: the quantiles .05 and .25 are .15 and .75
    assert facts["objects an image"] == [0, 0.15, 0.75, 1.5, 2.25, 2.85, 3]
    assert facts["box width / height"][::3] == [0.5, 1, 2]
    assert facts["box side"][::6] == [pytest.approx(200**0.5, abs=1e-4), 20]
    assert facts["box share of image"][::6] == [
        pytest.approx(200 / 1728, abs=1e-4),
        pytest.approx(400 / 1728, abs=1e-4),
    ]
    assert facts["kinds"] == {"jpeg": 2} and facts["colours"] == {"rgb": 2}
    assert facts["bits"] == {"8": 2} and facts["transparent"] == facts["turned by EXIF"] == 0
    assert any("classes: cat" in line for line in format_table(table(found["statistics"])))


def test_one_split_is_read_alone(tmp_path):
    good_voc(tmp_path)
    found = reported(voc(tmp_path, "split=val"), tmp_path / "run")
    assert set(found) == {"val", "statistics", "stops"} and set(found["statistics"]) == {"val"}


def test_the_exit_code_shows_whether_training_would_stop(tmp_path, caplog):
    root = tmp_path / "set"
    good_voc(root)
    with caplog.at_level("INFO", "onelook"):
        assert reported(voc(root), tmp_path / "good")["stops"] is None
    assert "nothing else is wrong" in caplog.text  # else than what training warns of, too:
    assert (
        "warning: 2 of 2 classes have fewer than 5 training objects: cat 4, dog 4;" in caplog.text
    )
    voc_image(root, "cut\udcff", JPEG[:-2])
    with caplog.at_level("INFO", "onelook"):
        reported(voc(root, "dataset.on_error=skip", "split=train"), tmp_path / "skip")
    assert "1 row of defects" in caplog.text
    done = command("dataset=voc", f"dataset.root={root}", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "training would stop: cannot" in done.stderr
    assert "cut\\udcff.jpg: the JPEG is cut short" in done.stdout
    assert json.loads((tmp_path / "run" / "data_report.json").read_text())["stops"].startswith(
        "cannot read"
    )


def without_rows(root):
    """A set of YOLO's layout whose rows are not there."""
    good_yolo(root)
    for file in (root / "labels").rglob("*.txt"):
        file.unlink()


def all_ignored(root):
    good_yolo(root)
    for file in (root / "labels").rglob("*.txt"):
        file.write_text("0 .5 .5 0 .4\n")  # without area


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (without_rows, "no object of the classes cat, dog in 4 images: .* 4 of 4 images of .*"
         "images/train have no .*txt in .*labels/train: without objects"),
        (all_ignored, "all 4 objects in 4 images are ignored"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_set_without_objects_would_stop_as_training_does(tmp_path, make, message, on_error):
    make(tmp_path / "set")
    dataset = ["dataset=yolo", f"dataset.root={tmp_path}/set", f"dataset.on_error={on_error}"]
    with pytest.raises(UserError, match=f"^training would stop: dataset: {message}"):
        reported(configured(*dataset), tmp_path / "run")
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=dataset)
    with pytest.raises(UserError, match=f"^dataset: {message}"):
        parts.dataset(cfg, "train")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("convert=cocoa", "convert=cocoa: expected coco or yolo; did you mean 'coco'"),
        ("samples=-1", "samples=-1: expected a whole number from 0"),
        ("dataset.sise=9", "dataset.sise: no such key; did you mean 'dataset.size'"),
        ("split=vla", "no split 'vla'"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(tmp_path, wrong, message):
    done = command("dataset=shapes", wrong, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_such_folder_is_an_error_and_no_report(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        reported(voc(tmp_path / "nowhere"), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def converted(data, path):
    writer = CocoWriter(path, data.classes, getattr(data, "categories", range(1, 1 + len(CLASSES))))
    for scanned in scan_images("train", data, {}, []):
        writer.add(scanned)
    writer.close()
    return COCO(annotations=str(path), images=json.loads(path.read_text())["info"]["images"])


def assert_equal_records(a, b):
    assert a.path == b.path and b.size in (a.size, None)
    for name in ("labels", "boxes", "ignore"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.fixture
def odd_voc(tmp_path):
    """A good set, with a difficult object, fractions, a turned image and an empty one."""
    root = tmp_path / "set"
    good_voc(root)
    hard = thing("cat", corners(1.1, 2.7, 20.3, 20.9), more="<difficult>1</difficult>")
    voc_image(root, "hard", xml=annotation(hard, thing("dog")))
    voc_image(root, "none", xml=annotation(" "))
    voc_image(root, "turned", TURNED)
    return open_split(voc(root), "train", "skip")


def test_the_converted_truth_reads_back_equal_and_pycocotools_loads_it(tmp_path, odd_voc, capsys):
    back = converted(odd_voc, tmp_path / "out" / "instances_train.json")
    assert back.classes == odd_voc.classes and back.categories == [1, 2]
    assert len(back) == len(odd_voc)
    for i in range(len(back)):
        assert_equal_records(odd_voc.record(i), back.record(i))
    reference = PycocotoolsCOCO(str(tmp_path / "out" / "instances_train.json"))
    assert len(reference.getImgIds()) == 7 and len(reference.getAnnIds()) == 12
    assert {c["name"]: c["id"] for c in reference.loadCats([1, 2])} == {"cat": 1, "dog": 2}
    assert len(reference.getAnnIds(iscrowd=True)) == 1
    sizes = {
        i["file_name"]: (i["width"], i["height"]) for i in reference.loadImgs(reference.getImgIds())
    }
    assert sizes["turned.jpg"] == (48, 36)  # the stored size, in whose pixels its boxes are
    for row in reference.loadAnns(reference.getAnnIds()):
        assert row["area"] == pytest.approx(row["bbox"][2] * row["bbox"][3])


def test_a_converted_coco_file_keeps_its_ids(tmp_path, odd_voc):
    first = json.loads(
        (converted(odd_voc, tmp_path / "a.json"), tmp_path / "a.json")[1].read_text()
    )
    for image in first["images"]:
        image["id"] *= 10
    for row in first["annotations"]:
        row["image_id"], row["category_id"] = 10 * row["image_id"], 7 * row["category_id"]
    for category in first["categories"]:
        category["id"] *= 7
    (tmp_path / "b.json").write_text(json.dumps(first))
    data = COCO(annotations=str(tmp_path / "b.json"), images=first["info"]["images"])
    back = converted(data, tmp_path / "c.json")
    assert back.categories == [7, 14] and [back.record(i).id for i in range(7)] == [
        10 * i for i in range(1, 8)
    ]
    for i in range(len(back)):
        assert_equal_records(data.record(i), back.record(i))


def test_a_classifiers_set_converts_to_boxes_of_whole_images(tmp_path):
    good_folder(tmp_path / "set")
    asked = "dataset=image_folder", f"dataset.root={tmp_path}/set", "convert=coco", "samples=3"
    found = reported(configured(*asked), tmp_path / "run")
    assert found["statistics"]["train"]["objects"] == 4 and found["train"] == []
    truth = json.loads((tmp_path / "run/annotations/instances_val.json").read_text())
    assert [i["file_name"] for i in truth["images"]] == ["cat/v.jpg", "dog/w.jpg"]
    assert [a["bbox"] for a in truth["annotations"]] == [[0, 0, 48, 36]] * 2
    page = cv2.imread(str(tmp_path / "run/images/samples.jpg"))
    assert page is not None and page.shape == (480, 6 * 480, 3)


def test_a_page_shows_each_image_before_and_after(tmp_path):
    cfg = configured(
        "dataset=shapes", "dataset.train=6", "samples=5", "image_size=64", "split=train"
    )
    reported(cfg, tmp_path / "run")
    page = cv2.imread(str(tmp_path / "run/images/samples.jpg"))
    assert page is not None and page.shape == (2 * 480, 8 * 480, 3)
    tiles = page.reshape(2, 480, 8, 480, 3).swapaxes(1, 2).reshape(16, -1)
    assert (tiles[:10].std(1) > 9).all() and (tiles[10:].std(1) < 2).all()  # the rest is bare
    assert (np.abs(tiles[0:10:2].astype(int) - tiles[1:10:2]).mean(1) > 5).all()


def test_real_blood_cells_have_two_boxes_without_area(shared_data, tmp_path):
    cfg = configured("dataset=voc", f"dataset.root={shared_data}/bccd")
    found = reported(cfg, tmp_path / "run")
    rows = [row for split in ("train", "val", "test", "no split") for row in found[split]]
    assert [row["file"].rpartition("_")[2] for row in rows] == ["00343.xml", "00338.xml"]
    assert all("has no area" in row["reason"] for row in rows)
    facts = found["statistics"].values()
    assert [f["images"] for f in facts] == [205, 87, 72] and found["stops"] is None
    total = {name: sum(f["classes"][name] for f in facts) for name in ("RBC", "WBC", "Platelets")}
    assert total == {"RBC": 4155, "WBC": 372, "Platelets": 361}


def test_a_row_of_a_file_that_lists_divide_is_reported_once(tmp_path):
    (tmp_path / "set").mkdir()
    good_csv(tmp_path / "set")
    csv_rows(tmp_path / "set", "a.jpg,cat,30,6,5,25", "lost.jpg,cat,1,1,5,5")
    for split, names in {"train": "ab", "val": "cd"}.items():
        (tmp_path / f"lists/{split}.txt").parent.mkdir(exist_ok=True)
        (tmp_path / f"lists/{split}.txt").write_text("\n".join(names))
    cfg = configured(
        "dataset=csv", f"dataset.root={tmp_path}/set", f"dataset.splits={tmp_path}/lists",
        f"dataset.annotations={tmp_path}/set/train.csv", "dataset.on_error=skip",
    )  # fmt: skip
    found = reported(cfg, tmp_path / "run")
    assert [row["row"] for row in found["train"]] == [10, 11] and found["val"] == []


def test_a_class_that_looks_misspelt_is_listed():
    facts = {"train": {"classes": {"dog": 90, "dgo": 1, "cat": 50, "car": 60, "emu": 0}},
             "val": {"classes": {"dog": 10, "dgo": 0, "cat": 9, "car": 9, "emu": 0}}}  # fmt: skip
    assert list(suspicious_class_names(facts)) == [
        "'dgo' has 1 of the objects, 'dog' 100: is it a typo?"
    ]


def test_converted_to_yolo_the_truth_reads_back_to_the_bit(tmp_path):
    good_voc(tmp_path)
    odd = thing("cat", corners(0.1, 3, 17.3, 29.7)), thing("dog", corners(5, 5, 5, 9))
    hard = thing("cat", corners(0, 0, 20, 20), more="<difficult>1</difficult>")
    voc_image(tmp_path, "odd", xml=annotation(*odd, hard), split="val")
    reported(voc(tmp_path, "convert=yolo"), tmp_path / "run")
    for split in ("train", "val"):
        before = open_split(voc(tmp_path), split, "fail")
        after = YOLO(root=str(tmp_path / "run/yolo"), split=split)
        assert before.classes == after.classes and len(before) == len(after)
        places = {after.record(i).id: i for i in range(len(after))}
        for i in range(len(before)):
            one = before.record(i)
            other = after.record(places[one.id])
            hard = one.ignore & (one.boxes[:, 2:] > one.boxes[:, :2]).all(1)
            assert one.boxes[~hard].tolist() == other.boxes.tolist()
            assert one.labels[~hard].tolist() == other.labels.tolist()
            assert (before.image(i) == after.image(places[one.id])).all()


def test_what_is_drawn_has_no_files_to_convert(tmp_path):
    with pytest.raises(UserError, match="convert=yolo: .* is no file, expected a set of image"):
        reported(configured("dataset.train=2", "dataset.val=1", "dataset.test=1", "convert=yolo"),
                 tmp_path / "run")  # fmt: skip
