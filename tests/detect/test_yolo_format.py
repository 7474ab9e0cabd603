import pytest
import sets

from detect.datasets.yolo import YOLO
from engine.errors import UserError


@pytest.fixture
def yolo(tmp_path):
    """A set of the images a, b, c in train, c in val; writes rows for a, and opens train."""
    sets.write_yolo(tmp_path, {"train": list("abc"), "val": ["c"]})

    def make(rows=None, **options):
        if rows is not None:
            (tmp_path / "labels/train/a.txt").write_text(rows)
        return YOLO(root=str(tmp_path), split="train", **options)

    return make


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0 .5 .5 .1", "4 values, expected class cx cy w h;"),
        ("0 .1 .1 .2 .1 .2 .2 .3", "8 values, .*; or class and the corners of a polygon, x y"),
        ("0 .1 .1 .2 x .2 .2", "value 5 is 'x', expected a number"),
        ("3 .5 .5 .1 .1", "class 3, expected 0 to 2"),
        ("-1 .5 .5 .1 .1", "class -1, expected 0 to 2"),
        ("0.5 .5 .5 .1 .1", "class 0.5, expected 0 to 2"),
        ("cat .5 .5 .1 .1", "class is 'cat', expected a number"),
        ("0 nan .5 .1 .1", "cx is 'nan', expected a number"),
        ("0 .5 .5 -.1 .1", r"w -0.1, h 0.1, expected sizes from 0 on"),
        ("0 32 24 10 10", "'0 32 24 10 10': expected shares of the image, not pixels"),
    ],
)
def test_a_bad_row_fails_or_is_left_out_alone(yolo, row, reason):
    rows = f"0 .5 .5 .1 .1\n\n{row}\n2 .5 .5 .5 .5\n"
    with pytest.raises(UserError, match=rf"labels/train/a\.txt, row 3: {reason}.*on_error=skip"):
        yolo(rows)
    data = yolo(rows, on_error="skip")
    assert data.record(0).labels.tolist() == [0, 2]
    (entry,) = data.report
    assert entry["row"] == 3 and entry["file"].endswith("a.txt") and entry["action"] == "left out"


def test_a_box_in_pixels_of_the_image(yolo):
    # 64 x 48 pixels: centre (32, 12), size 16 x 24, so x from 24 to 40, y from 0 to 24.
    assert yolo("1 .5 .25 .25 .5\n").record(0).boxes.tolist() == [[24, 0, 40, 24]]


def test_the_score_of_a_predicted_row_is_passed_over_and_noted(yolo):
    data = yolo("1 .5 .25 .25 .5 .875\n0 .5 .5 .1 .1\n")
    assert data.record(0).boxes[0].tolist() == [24, 0, 40, 24] and len(data.record(0).labels) == 2
    assert "1 rows have a score, of a prediction: passed over" in data.notes
    with pytest.raises(UserError, match="row 1: score is 'high', expected a number"):
        yolo("1 .5 .25 .25 .5 high\n")


def test_a_polygon_gives_the_box_around_it_aloud(yolo):
    # Corners (16, 12), (48, 24), (32, 36) of 64 x 48 pixels.
    data = yolo("1 .25 .25 .75 .5 .5 .75\n0 .5 .5 .1 .1\n")
    assert data.record(0).boxes[0].tolist() == [16, 12, 48, 36]
    assert "1 rows are polygons: the box around each is taken" in data.notes


def test_keypoints_are_no_polygon_where_data_yaml_has_their_shape(yolo, tmp_path):
    (tmp_path / "data.yaml").write_text("names: [a, b, c]\nkpt_shape: [2, 3]\n")
    data = yolo("1 .5 .25 .25 .5 .1 .1 2 .2 .2 2\n")
    assert data.record(0).boxes.tolist() == [[24, 0, 40, 24]]


def test_val_that_is_train_is_no_val(yolo, tmp_path):
    (tmp_path / "data.yaml").write_text(
        "names: [a, b, c]\ntrain: images/train\nval: images/train\n"
    )
    assert len(yolo(val_share=0)) == 3
    assert "val is the same as train" in yolo().notes[0]


def test_images_without_labels_have_no_object_and_are_noted(yolo, tmp_path):
    images, labels = tmp_path / "images/train", tmp_path / "labels/train"
    note = f"1 images of {images} have no *.txt in {labels}: without objects"
    assert yolo().notes == [note]
    (images / "b.txt").touch()  # as Darknet has them
    assert yolo().notes == [f"{note}; there are *.txt in {images}"]
    assert yolo("").record(0).boxes.shape == (0, 4)  # an empty file says the same, aloud


def test_labels_without_an_image_and_bad_images(yolo, tmp_path):
    (tmp_path / "labels/train/z.txt").write_text("0 .5 .5 .1 .1\n")
    with pytest.raises(UserError, match=r"labels/train/z\.txt: no image of this name; mend it"):
        yolo()
    (tmp_path / "images/train/b.png").write_bytes(b"no image")
    data = yolo(on_error="skip")
    assert [data.record(i).id for i in range(len(data))] == ["a", "c"]
    assert [e["file"].rpartition("/")[2] for e in data.report] == ["z.txt", "b.png"]


def test_names_of_the_classes(yolo, tmp_path):
    assert yolo(classes=["x", "y", "z"]).classes == ["x", "y", "z"]
    yaml = tmp_path / "data.yaml"
    yaml.write_text("nc: 3\nnames: [x, y, 3]\n")
    assert yolo().classes == ["x", "y", "3"]
    yaml.unlink()
    with pytest.raises(UserError, match=r"expected data\.yaml or classes\.txt in it"):
        yolo()
    (tmp_path / "classes.txt").write_text("one\ntwo\nthree\n")
    assert yolo().classes == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"names: [no, yes]", ["no", "yes"]),
        (b"names: [010, 1_0, 1e3, 0x1F, 12:30, null, ~, 2020-01-01, .inf]",
         ["010", "1_0", "1e3", "0x1F", "12:30", "null", "~", "2020-01-01", ".inf"]),
        (b"names: {1: dog, 0: cat}", ["cat", "dog"]),
        (b"names:\n  - 'a: b'\n  - \"\\u00e9\"\n", ["a: b", "\u00e9"]),
        (b"\xef\xbb\xbfnames: [a]", ["a"]),
        ("names: [\u00e9]".encode("utf-16"), ["\u00e9"]),
        (b"x: &x [train]\ny: *x\nnames: [a, b]", ["a", "b"]),
    ],
)  # fmt: skip
def test_a_class_has_the_name_that_is_written(yolo, tmp_path, text, names):
    (tmp_path / "data.yaml").write_bytes(text)
    for file in tmp_path.rglob("labels/**/*.txt"):
        file.write_text("")
    assert yolo().classes == names


LAUGHS = b"a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12)
)
MERGES = b"m0: &m0 {k: 1}\n" + b"".join(
    b"m%d: &m%d {<<: [%s]}\n" % (i, i, b", ".join([b"*m%d" % (i - 1)] * 9)) for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"names: person", "names is 'person', a text"),
        (b"names: 7", "names is '7', a text"),
        (b"names:", "names is '', a text"),
        (b"names: {1: a, 2: b}", "names has the keys 1, 2"),
        (b"names: {0: a, 0: b}", "names has the keys 0, 0"),
        (b"names: {0: a, 2: b}", "names has the keys 0, 2"),
        (b"names: {[0]: a}", "names has the keys"),
        (b"names: [a]\nnames: [b]", "2 keys 'names'"),
        (b"nc: 3\nnames: [a, b]", "nc is 3, names has 2"),
        (b"nc: [2]\nnames: [a, b]", "nc is .*, names has 2"),
        (b"names: [a, [b]]", "name 1 is no text"),
        (b"names: [a, '']", "name 1 is no text"),
        (b"names: {0: }", "name 0 is no text"),
        (b"nc: 3", "0 keys 'names'"),
        (b"- a", "0 keys 'names'"),
        (b"", "0 keys 'names'"),
        (b"names: [a", "no YAML"),
        (b"names: !!python/object:x {}", "names is empty"),
        (b"names: *a", "no YAML"),
        (b"names: [\x00]", "no YAML"),
        (b"names: [\xe9]", "no YAML"),
        (b"[" * 50_000, "nested too deeply"),
        (b"#" * 5_000_000, "5000000 bytes, more than the 524288"),
        (LAUGHS + b"names: *a11", "name 0 is no text"),
        (MERGES + b"names: *m11", "names has the keys <<"),
    ],
)
def test_names_that_are_none_are_refused_and_never_expanded(yolo, tmp_path, text, message):
    (tmp_path / "data.yaml").write_bytes(text)
    with pytest.raises(UserError, match=rf"data\.yaml: {message}.*; expected a list under names"):
        yolo()


def test_splits_may_lie_outside(yolo, tmp_path):
    data = yolo()
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for part in ("images", "labels"):
            (tmp_path / part / split).rename(tmp_path / split / part)
    for part in ("images", "labels"):
        (tmp_path / part).rmdir()
    moved = yolo()
    assert moved.record(0).path == f"{tmp_path}/train/images/a.png"
    assert moved.record(0).boxes.tolist() == data.record(0).boxes.tolist()


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected images/<split>/ and labels/<split>/ in it"):
        YOLO(root=str(tmp_path), split="train", classes=["a"])
