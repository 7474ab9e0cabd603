"""What the tables of images share."""

import pytest

from engine.data.image_names import ImageNames
from engine.data.table import MAX_LINE, column_values, read_table
from engine.errors import UserError

COLUMNS = {"file": "filename", "kind": "class"}


def test_the_values_of_a_column_of_all_files_are_sorted_and_not_empty(tmp_path):
    for name, rows in (("a", "1.png,wasp\n2.png,\n"), ("b", "3.png,ant\n4.png,wasp\n")):
        (tmp_path / f"{name}.csv").write_text(f"filename,kind\n{rows}")
    files = sorted(tmp_path.glob("*.csv"))
    assert column_values(files, {"label": "kind"}, "label") == ["ant", "wasp"]


@pytest.mark.parametrize(
    ("row", "found", "defect"),
    [
        ("a.png,wasp", ["a.png", "wasp"], None),
        (' a.png , "wasp"', ["a.png", "wasp"], None),
        ('"a.png","the ""wasp"""', ["a.png", 'the "wasp"'], None),
        ('5" nails.png,wasp', ['5" nails.png', "wasp"], None),
        ("a.png", ["a.png", ""], None),
        ("a.png,wasp,", ["a.png", "wasp"], None),
        (",", ["", ""], None),
        ("a.png,wasp,1,5", ["a.png", "wasp"], "4 cells, the top row has 2"),
        ('"a.png,wasp', None, "a quote is left open"),
        ('a.png,"wasp', None, "a quote is left open"),
        ('"a.png"x,wasp', None, "a quote is left open"),
        ("a" * MAX_LINE + ",wasp", None, "a line of 131072 characters or more"),
        ("a" * 3 * MAX_LINE + ",wasp", None, "a line of 131072 characters or more"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_odd_row_takes_no_other_along(tmp_path, row, found, defect, end):
    file = tmp_path / "a.csv"
    file.write_text(end.join(["filename,class", "", row, "b.png,bee", ""]), newline="")
    odd, good = read_table(file, COLUMNS)
    assert (odd.number, good) == (3, (4, {"file": "b.png", "kind": "bee"}, None))
    assert odd.defect is None if defect is None else odd.defect.startswith(defect)
    assert found is None or list(odd.values.values()) == found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no column 'filename' .* the top row has nothing"),
        (b"filename,kind\n", "no column 'class'"),
        (b"filename,class,class\n", "2 columns 'class', expected one"),
        (b'"filename,class\n', "no column .* a quote is left open"),
        ("filename,class\na.png,wasp\n".encode("utf-16"), "no CSV in UTF-8"),
        (b"filename,class\n\xe9.png,wasp\n", "no CSV in UTF-8"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, data, message):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(UserError, match=f"a.csv: {message}"):
        list(read_table(tmp_path / "a.csv", COLUMNS))


@pytest.mark.parametrize("name", ["", "../a.png", "/a.png", "a\0.png", "\ud800.png", "x/../../a"])
def test_a_name_outside_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is none below the folder of the images"):
        ImageNames(str(tmp_path)).find(name)


def test_an_image_is_found_by_whatever_way_a_row_names_it(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.png").touch()
    for name in ("sub/a.png", "./sub/a.png", "sub//a.png", f"{tmp_path}/sub/a.png", "sub/a",
                 "sub\\a.png", "./sub/../sub/a.png"):  # fmt: skip
        assert ImageNames(str(tmp_path)).find(name) == "sub/a.png"


def test_a_missing_image_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "a.jpg").touch()
    for name in ("b.png", "b" * 300, "sub"):
        with pytest.raises(ValueError, match=f"no image {name} in {tmp_path}"):
            ImageNames(str(tmp_path)).find(name)
    with pytest.raises(ValueError, match="'a' may be a.jpg or a.png: write its ending"):
        ImageNames(str(tmp_path)).find("a")
