import tarfile

import numpy as np
import pytest

from detect.datasets.voc import VOC
from engine.data.image import write_rgb
from engine.errors import UserError

GOOD = "<xmin>1</xmin><ymin>2</ymin><xmax>30.5</xmax><ymax>20</ymax>"
SIZE = "<size><width>40</width><height>24</height></size>"


def thing(name="cat", box=GOOD, more=""):
    return f"<object><name>{name}</name><bndbox>{box}</bndbox>{more}</object>"


def corners(xmin, ymin, xmax, ymax):
    values = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
    return "".join(f"<{k}>{v}</{k}>" for k, v in values.items())


@pytest.fixture
def voc(tmp_path):
    """Writes a VOC folder: annotation bodies by image name, all of them in the split train."""

    def write(root=tmp_path, rows=None, **bodies):
        for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / part).mkdir(parents=True, exist_ok=True)
        for name, body in bodies.items():
            write_rgb(str(root / "JPEGImages" / f"{name}.jpg"), np.zeros((24, 40, 3), np.uint8))
            whole = body if body.startswith("<?xml") else f"<annotation>{SIZE}{body}</annotation>"
            (root / "Annotations" / f"{name}.xml").write_text(whole)
        for split in ("train", "val"):  # val, so that no share of train is held out
            list_of = root / "ImageSets/Main" / f"{split}.txt"
            list_of.write_text("\n".join(rows or bodies) + "\n")
        return str(root)

    return write


def test_boxes_labels_and_difficult(voc):
    hard = thing("ant", corners(1, 1, 40, 24), "<difficult>1</difficult>")
    data = VOC(root=voc(a=thing() + hard, b="", c=thing("bee")), split="train")
    assert data.classes == ["ant", "bee", "cat"] and len(data) == 3
    assert data.report == [] and data.notes == []
    first, empty, last = (data.record(i) for i in range(3))
    assert first.id == "a" and first.path.endswith("JPEGImages/a.jpg")
    assert first.boxes is not None and first.ignore is not None
    assert first.boxes.tolist() == [[1, 2, 30.5, 20], [1, 1, 40, 24]]  # as in the file, no shift
    assert first.labels.tolist() == [2, 0] and first.ignore.tolist() == [False, True]
    assert (first.boxes.dtype, first.labels.dtype) == (np.float32, np.int64)
    assert empty.boxes is not None and empty.boxes.shape == (0, 4) and len(empty.labels) == 0
    assert last.labels.tolist() == [1]
    assert data.image(0).shape == (24, 40, 3)


def test_no_object_in_a_split(voc):
    root = voc(a=thing(), b="", rows=["b"])
    record = VOC(root=root, split="train").record(0)
    assert record.boxes is not None and record.boxes.shape == (0, 4)


def test_parts_are_no_objects(voc):
    parts = f"<part><name>head</name><bndbox>{corners(5, 5, 9, 9)}</bndbox></part>"
    data = VOC(root=voc(a=thing(more=parts + thing("head"))), split="train")
    assert data.classes == ["cat"] and len(data.record(0).labels) == 1
    # Without a box of its own, that of the part does not stand in.
    root = voc(a=f"<object><name>cat</name>{parts}</object>")
    with pytest.raises(UserError, match=r"a\.xml, object 1: no <bndbox> with <xmin>"):
        VOC(root=root, split="train")


def test_classes_given_keep_their_order(voc):
    root = voc(a=thing("cat") + thing("bee"))
    data = VOC(root=root, split="train", classes=["cat", "bee"])
    assert data.record(0).labels.tolist() == [0, 1]
    with pytest.raises(
        UserError, match=r"object 2: unknown class 'bee', expected one of bees, cat"
    ):
        VOC(root=root, split="train", classes=["bees", "cat"])
    with pytest.raises(UserError, match="must name each class once"):
        VOC(root=root, split="train", classes=["cat", "cat"])


def test_rows_with_flags_blank_lines_and_spaces_in_names(voc):
    bodies = {"a": thing(), "b c": thing(), "d": thing()}
    data = VOC(root=voc(rows=["a -1", "", "b c", "d  1"], **bodies), split="train")
    assert [data.record(i).id for i in range(3)] == ["a", "b c", "d"]


@pytest.mark.parametrize("above", [".", "VOC2012", "VOCdevkit/VOC2012"])
def test_root_may_lie_above(voc, tmp_path, above):
    voc(root=tmp_path / above, a=thing())
    assert len(VOC(root=str(tmp_path), split="train")) == 1


def test_two_folders_below_root(voc, tmp_path):
    for year in ("VOC2007", "VOC2012"):
        voc(root=tmp_path / "VOCdevkit" / year, a=thing())
    with pytest.raises(UserError, match=r"2 VOC folders: .*VOC2007, .*VOC2012; name one"):
        VOC(root=str(tmp_path), split="train")


def test_no_voc_folder(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="found images; expected a folder with JPEGImages"):
        VOC(root=str(tmp_path), split="train")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        VOC(root=str(tmp_path / "nowhere"), split="train")


def test_missing_split_lists_those_there(voc, tmp_path):
    root = voc(a=thing())
    (tmp_path / "ImageSets/Main/trainval.txt").write_text("a\n")
    (tmp_path / "ImageSets/Main/cat_train.txt").write_text("a 1\n")
    with pytest.raises(
        UserError, match=r"no split 'trian'.*there are train, trainval, val; did you"
    ):
        VOC(root=root, split="trian")
    assert len(VOC(root=root, split="cat_train")) == 1


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (thing(box=corners(9, 1, 3, 8)), "box xmin=9 ymin=1 xmax=3 ymax=8 is inverted"),
        (thing(box=corners("nan", 1, 3, 8)), "xmin is 'nan', expected a number"),
        (thing(box=corners(1, "x", 3, 8)), "ymin is 'x', expected a number"),
        (thing(box="<xmin>1</xmin>"), "no <bndbox> with <ymin>"),
        (thing(name="dog"), "unknown class 'dog', expected one of cat"),
        (thing(name=""), "unknown class '', expected one of cat"),
    ],
)
def test_a_bad_object_fails_or_is_left_out_alone(voc, bad, reason, skip):
    root = voc(a=thing(), b=thing() + bad + thing(box=corners(3, 4, 9, 9)))
    if not skip:
        with pytest.raises(UserError, match=rf"b\.xml, object 2: {reason}.*dataset\.on_error=skip"):
            VOC(root=root, split="train", classes=["cat"])
        return
    data = VOC(root=root, split="train", classes=["cat"], on_error="skip")
    assert [len(data.record(i).labels) for i in range(2)] == [1, 2]
    (entry,) = data.report
    assert entry["file"].endswith("Annotations/b.xml") and entry["row"] == 2
    assert reason in entry["reason"] and entry["action"] == "left out"


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation><object>", "not XML"),
        ("", "not XML"),
        (None, "No such file"),
        ("<html></html>", "expected <annotation> as the root, got <html>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "a DOCTYPE is refused"),
    ],
)
def test_a_bad_file_fails_or_is_left_out_whole(voc, tmp_path, text, reason, skip):
    root = voc(a=thing(), b="", c=thing("dog"))
    (tmp_path / "Annotations/b.xml").unlink()
    if text is not None:
        (tmp_path / "Annotations/b.xml").write_text(text)
    if not skip:
        with pytest.raises(UserError, match=rf"b\.xml: {reason}.*on_error=skip"):
            VOC(root=root, split="train")
        return
    data = VOC(root=root, split="train", on_error="skip")
    assert [data.record(i).id for i in range(len(data))] == ["a", "c"]
    assert data.record(1).labels.tolist() == [1]
    (entry,) = data.report
    assert entry["file"].endswith("b.xml") and entry["row"] is None and reason in entry["reason"]


def test_a_doctype_in_utf16_is_refused(voc, tmp_path):
    root = voc(a=thing())
    bomb = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]><annotation/>'
    (tmp_path / "Annotations/a.xml").write_bytes(bomb.encode("utf-16"))
    with pytest.raises(UserError, match=r"a\.xml: a DOCTYPE is refused"):
        VOC(root=root, split="train", classes=["cat"])


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["a", "z"], r"row 2: no image JPEGImages/z\.jpg"),
        (["a", "b", "", "a 1"], "row 4: a is in row 1 already"),
    ],
)
def test_bad_rows_of_the_split(voc, rows, reason):
    root = voc(a=thing(), b=thing(), rows=rows)
    with pytest.raises(UserError, match=rf"train\.txt, {reason}"):
        VOC(root=root, split="train")
    (entry,) = VOC(root=root, split="train", on_error="skip").report
    assert entry["file"].endswith("train.txt") and f"row {entry['row']}: " in reason


def test_nothing_left(voc):
    root = voc(a=thing(), rows=["z"])
    with pytest.raises(UserError, match=r"train\.txt: no image to use"):
        VOC(root=root, split="train", on_error="skip")


def test_boxes_without_area_are_ignored_and_told(voc):
    flat = thing(box=corners(5, 1, 5, 8)) + thing(box=corners(5, 8, 9, 8))
    data = VOC(root=voc(a=thing() + flat), split="train")
    ignore = data.record(0).ignore
    assert ignore is not None and ignore.tolist() == [False, True, True]
    assert [(e["row"], e["action"]) for e in data.report] == [(2, "ignored"), (3, "ignored")]
    assert data.report[0]["reason"] == "box xmin=5 ymin=1 xmax=5 ymax=8 has no area"


def test_boxes_that_leave_the_image_are_kept_and_told(voc):
    out = thing(box=corners(-3, 1, 50, 8))
    data = VOC(root=voc(a=thing(box=corners(0, 0, 40, 24)) + out), split="train")
    record = data.record(0)
    assert record.boxes is not None and record.boxes[1].tolist() == [-3, 1, 50, 8]
    (entry,) = data.report
    assert entry["row"] == 2 and entry["action"] == "kept" and "leaves" in entry["reason"]


def test_on_error_has_two_values(voc):
    with pytest.raises(UserError, match="on_error is 'ignore', expected 'fail' or 'skip'"):
        VOC(root=voc(a=thing()), split="train", on_error="ignore")


def test_bccd(shared_data):
    splits = {s: VOC(root=str(shared_data / "bccd"), split=s) for s in ("trainval", "test")}
    assert sum(len(d) for d in splits.values()) == 364
    labels = [d.record(i).labels for d in splits.values() for i in range(len(d))]
    assert splits["test"].classes == ["Platelets", "RBC", "WBC"]
    assert np.bincount(np.concatenate(labels)).tolist() == [361, 4155, 372]


@pytest.mark.parametrize(
    ("split", "count", "name"), [("train", 205, "00343"), ("val", 87, "00338"), ("test", 72, None)]
)
def test_bccd_boxes_without_area(shared_data, split, count, name):
    data = VOC(root=str(shared_data / "bccd"), split=split)
    assert len(data) == count
    told = [(e["file"].rpartition("/")[2], e["action"]) for e in data.report]
    assert told == ([(f"BloodImage_{name}.xml", "ignored")] if name else [])


def test_voc2012(shared_data):
    root = str(shared_data / "voc2012_sub")
    train, val = (VOC(root=root, split=s) for s in ("train", "val"))
    assert (len(train), len(val)) == (700, 350)
    assert train.classes == val.classes and len(val.classes) == 18
    records = [d.record(i) for d in (train, val) for i in range(len(d))]
    # Six of the files nest <part> boxes, which are not among these.
    assert sum(len(r.labels) for r in records) == 3060
    assert sum(int(r.ignore.sum()) for r in records if r.ignore is not None) == 459
    assert train.report == val.report == []


@pytest.mark.parametrize(
    ("archive", "split", "images", "objects", "difficult"),
    [
        ("2007", "trainval", 5011, 15662, None),
        ("2007", "test", 4952, 14976, None),
        ("2012", "trainval", 11540, 31561, 4111),
    ],
)
@pytest.mark.slow
def test_the_whole_truth_of_voc_without_its_images(
    shared_data, tmp_path_factory, archive, split, images, objects, difficult
):
    folder = tmp_path_factory.getbasetemp() / "voc"
    if not folder.exists():
        for file in sorted((shared_data / "voc_annotations_only").glob("*.tar.gz")):
            with tarfile.open(file) as tar:
                tar.extractall(folder / file.name.split(".")[0], filter="data")
    (root,) = folder.rglob(f"VOC{archive}")
    data = VOC(root=str(root), split=split)
    records = [data.record(i) for i in range(len(data))]
    assert len(data) == images and sum(len(r.labels) for r in records) == objects
    assert difficult in (None, sum(int(r.ignore.sum()) for r in records))
    assert len(data.classes) == 20 and data.report == []
    assert [note.rpartition(": ")[2] for note in data.notes] == ["the truth alone can be read"]
    assert all(r.size and min(r.size) > 0 for r in records)
