import pytest
import sets

from detect.datasets.csv import CSV
from detect.datasets.voc import VOC
from engine.errors import UserError

TOP = "filename,class,xmin,ymin,xmax,ymax"


@pytest.fixture
def table(tmp_path):
    """Writes train.csv beside the images a, b, c, and opens it."""
    sets.images(tmp_path)
    (tmp_path / "val.csv").write_text(f"{TOP}\na.png,cat,1,1,2,2\n")

    def make(*rows, top=TOP, **options):
        (tmp_path / "train.csv").write_text("\n".join((top, *rows)) + "\n")
        return CSV(root=str(tmp_path), split="train", **options)

    return make


def test_columns_in_any_order_and_by_any_name(table):
    columns = {"filename": "file", "class": "kind"}
    data = table("x,9,cat,2,1,7,a.png", top="more,ymax,kind,ymin,xmin,xmax,file", columns=columns,
                 classes=["cat"])  # fmt: skip
    assert data.record(0).boxes.tolist() == [[1, 2, 7, 9]] and data.record(0).id == "a"
    wrong = "no column 'xmin' for dataset.columns.xmin, the top row has filename, class, x1"
    with pytest.raises(UserError, match=wrong):
        table(top="filename,class,x1", classes=["cat"])


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_separators_quotes_and_a_byte_order_mark(table, mark):
    row = mark.join(('"a.png"', "cat", "1", "2", "3", "4.5"))
    data = table(row, top="\ufeff" + TOP.replace(",", mark))
    assert data.record(0).boxes.tolist() == [[1, 2, 3, 4.5]]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.png,cat,1,2,x,4", "xmax is 'x', expected a number"),
        ("a.png,cat,1,2", "xmax is '', expected a number"),
        ("a.png,cat,1,inf,3,4", "ymin is 'inf', expected a number"),
        ("a.png,cat,5,2,3,4", "box xmin=5 ymin=2 xmax=3 ymax=4 is inverted"),
        ("a.png,dog,1,2,3,4", "unknown class 'dog', expected one of cat"),
        ("z.png,cat,1,2,3,4", r"no image z\.png in "),
        ("../z.png,cat,1,2,3,4", r"filename '\.\./z\.png' is none below the folder"),
        ("/etc/passwd,cat,1,2,3,4", "filename '/etc/passwd' is none below the folder"),
        (",cat,1,2,3,4", "filename '' is none below the folder"),
    ],
)
def test_a_bad_row_fails_or_is_left_out_alone(table, row, reason):
    rows = ("a.png,cat,1,2,3,4", row, "c.png,cat,2,2,4,4")
    with pytest.raises(UserError, match=rf"train\.csv, row 3: {reason}.*dataset\.on_error=skip"):
        table(*rows, classes=["cat"])
    data = table(*rows, classes=["cat"], on_error="skip")
    assert [data.record(i).labels.tolist() for i in range(len(data))] == [[0], [0]]
    assert [(e["row"], e["action"]) for e in data.report] == [(3, "left out")]


def test_images_without_a_row_are_noted_or_listed(table, tmp_path):
    rows = ("c.png,cat,1,2,3,4", "b.png,,,,,")
    data = table(*rows)
    assert [data.record(i).id for i in range(len(data))] == ["c", "b"]
    assert data.notes == [f"1 images in {tmp_path} have no row: left out"]
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("a\nc\n")
    one = {"annotations": str(tmp_path / "train.csv"), "splits": str(lists), "val_share": 0}
    listed = CSV(root=str(tmp_path), split="train", **one)
    assert [listed.record(i).id for i in range(2)] == ["a", "c"] and listed.notes == []
    assert listed.record(0).boxes.shape == (0, 4)


def test_files_that_are_no_tables(table, tmp_path):
    (tmp_path / "val.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"val\.csv: no CSV in UTF-8"):
        table("a.png,cat,1,2,3,4")
    with pytest.raises(UserError, match=r"gone\.csv: No such file or directory; expected a CSV"):
        table(annotations=str(tmp_path / "gone.csv"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"expected <split>\.csv in it, or set dataset\.annotatio"):
        CSV(root=str(empty), split="train")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_bccds_table_holds_the_boxes_of_its_xml(shared_data, split):
    # Its columns stand in the order xmin, xmax, ymin, ymax.
    root = shared_data / "bccd"
    table = CSV(
        root=str(root / "JPEGImages"),
        annotations=str(root / "test.csv"),
        columns={"class": "cell_type"},
        splits=str(root / "ImageSets/Main"),
        split=split,
    )
    voc = VOC(root=str(root), split=split)
    assert table.classes == voc.classes and len(table) == len(voc)
    for i in range(len(voc)):
        one, other = table.record(i), voc.record(i)
        assert one.id == other.id and one.labels.tolist() == other.labels.tolist()
        assert one.boxes.tolist() == other.boxes.tolist()
        assert one.ignore.tolist() == other.ignore.tolist()
    assert len(table.report) == {"train": 2, "val": 2, "test": 2}[split]
