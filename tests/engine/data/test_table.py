"""What the tables of images share."""

import pytest

from engine.data.table import check_image, column_values


def test_the_values_of_a_column_of_all_files_are_sorted_and_not_empty(tmp_path):
    for name, rows in (("a", "1.png,wasp\n2.png,\n"), ("b", "3.png,ant\n4.png,wasp\n")):
        (tmp_path / f"{name}.csv").write_text(f"filename,kind\n{rows}")
    files = sorted(tmp_path.glob("*.csv"))
    assert column_values(files, {"label": "kind"}, "label") == ["ant", "wasp"]


@pytest.mark.parametrize("name", ["", "../a.png", "/a.png"])
def test_a_name_outside_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is none below the folder of the images"):
        check_image(str(tmp_path), name)


def test_a_missing_image_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    check_image(str(tmp_path), "a.png")
    with pytest.raises(ValueError, match=f"no image b.png in {tmp_path}"):
        check_image(str(tmp_path), "b.png")
