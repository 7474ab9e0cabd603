import pytest
import sets

from classify.datasets.csv_labels import CSVLabels
from engine.errors import UserError


@pytest.fixture
def table(tmp_path):
    """Writes train.csv beside the images a, b, c, and opens it."""
    sets.images(tmp_path)
    (tmp_path / "val.csv").write_text("filename,label\na.png,dog\n")

    def make(*rows, split="train", **options):
        (tmp_path / "train.csv").write_text("\n".join(("filename,label", *rows)) + "\n")
        return CSVLabels(root=str(tmp_path), split=split, **options)

    return make


def labels(data):
    return {data.record(i).id: data.record(i).labels.tolist() for i in range(len(data))}


def test_a_label_a_row_classes_of_all_splits(table):
    data = table("c.png,cat", "a.png,bee")
    assert data.classes == ["bee", "cat", "dog"] and data.report == []
    assert labels(data) == {"c": [1], "a": [0]} and data.record(0).boxes is None
    assert labels(table("a.png,bee", split="val")) == {"a": [2 - 1]}
    assert data.image(0)[0, 0].tolist() == [80, 80, 80]


def test_several_rows_are_several_labels(table):
    data = table("a.png,cat", "b.png,bee", "a.png,bee")
    assert labels(data) == {"a": [1, 0], "b": [0]}
    assert data.notes == [
        "1 of 2 images have several labels: train with loss=bce metric=multi_label"
    ]


@pytest.mark.parametrize("mark", "|;")
def test_a_cell_of_several_labels(table, mark):
    rows = f"a.png,cat{mark}bee", f"b.png, bee {mark} bee {mark}", "c.png,"
    data = table(*rows, separator=mark)
    assert data.classes == ["bee", "cat", "dog"]
    assert labels(data) == {"a": [1, 0], "b": [0], "c": []}
    assert "1 of 3 images have several labels" in data.notes[0]
    one = table(*rows[:2])
    assert one.classes == [f"bee {mark} bee {mark}", f"cat{mark}bee", "dog"]
    with pytest.raises(UserError, match="row 2: unknown class 'bee', expected one of cat"):
        table(*rows, separator=mark, classes=["cat"])


def test_a_column_names_the_split_of_each_row(tmp_path):
    sets.images(tmp_path)
    text = "filename,label,set\na.png,cat,train\nb.png,bee,Valid\nc.png,cat,\n"
    (tmp_path / "all.csv").write_text(text)
    made = {"root": str(tmp_path), "columns": {"split": "set"}}
    train, val = (CSVLabels(split=split, **made) for split in ("train", "val"))
    assert labels(train) == {"a": [1]} and labels(val) == {"b": [0]}
    assert train.notes == ["1 rows have no split: left out"]
    with pytest.raises(UserError, match="no split 'test' in .*there are train, val"):
        CSVLabels(split="test", **made)
    with pytest.raises(UserError, match="the column 'label' of .* has bee, cat; expected train"):
        CSVLabels(split="train", root=str(tmp_path), columns={"split": "label"})
    (tmp_path / "more.csv").write_text(text)
    with pytest.raises(UserError, match=r"there is a file a split \(all, more\)"):
        CSVLabels(split="train", **made)


def test_images_that_lie_elsewhere_are_named(table, tmp_path):
    found = (
        rf"no image for 'train'; 2 are left out, the first: .* row 2: no image y\.png in {tmp_path}"
    )
    with pytest.raises(UserError, match=found):
        table("y.png,cat", "z.png,cat", on_error="skip")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.png,dog", "unknown class 'dog', expected one of bee, cat"),
        ("a.png", "unknown class ''"),
        ("z.png,cat", r"no image z\.png in"),
        ("../z.png,cat", r"filename '\.\./z\.png' is none below"),
        ("a.png,cat", r"a\.png is 'cat' in another row already"),
    ],
)
def test_a_bad_row_fails_or_is_left_out(table, row, reason):
    rows, classes = ("a.png,cat", row, "b.png,bee"), ["bee", "cat"]
    with pytest.raises(UserError, match=rf"train\.csv, row 3: {reason}.*on_error=skip"):
        table(*rows, classes=classes)
    data = table(*rows, classes=classes, on_error="skip")
    assert labels(data) == {"a": [1], "b": [0]}
    assert [e["row"] for e in data.report] == [3]


def test_a_share_of_each_class(tmp_path):
    sets.images(tmp_path, [f"p{i}" for i in range(8)])
    rows = [f"p{i}.png,{'cat' if i < 4 else 'bee'}" for i in range(8)]
    (tmp_path / "all.csv").write_text("\n".join(["filename,label", *rows]))
    one = {"root": str(tmp_path), "annotations": str(tmp_path / "all.csv"), "val_share": 0.25}
    train, val = (CSVLabels(split=split, **one) for split in ("train", "val"))
    assert sorted(x for y in labels(val).values() for x in y) == [0, 1]
    assert len(train) == 6 and not labels(train).keys() & labels(val).keys()
