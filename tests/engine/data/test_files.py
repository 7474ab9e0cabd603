import cv2
import numpy as np
import pytest

from engine.data.files import Files
from engine.errors import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "._a.JPG").write_bytes(b"of macOS")
    for name in ("b.png", "a.JPG", "sub/c.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 6, 3))) if name[-3:] != "txt" else None
    return tmp_path


def test_a_folder_is_its_images_sorted_subfolders_too(folder):
    files = Files(source=str(folder))
    assert files.ids == ["a", "b", "c"] and len(files) == 3
    assert files.image(2).shape == (4, 6, 3)
    assert len(files.record(0).labels) == 0 and files.record(0).boxes.shape == (0, 4)


def test_a_glob_and_a_file(folder):
    assert Files(source=str(folder / "*.png")).ids == ["b"]
    assert Files(source=str(folder / "sub/c.png")).ids == ["c"]


def test_stems_that_repeat_keep_their_path(folder):
    cv2.imwrite(str(folder / "sub/b.png"), np.zeros((4, 6, 3)))
    assert Files(source=str(folder)).ids == ["a", "b.png", "sub/b.png", "c"]


@pytest.mark.parametrize("source", ["nowhere", "*.bmp", "empty"])
def test_nothing_to_predict_is_an_error(source, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="source="):
        Files(source=str(tmp_path / source))


def test_on_error_is_one_of_two_words(folder):
    with pytest.raises(UserError, match="^on_error=skipp: expected fail or skip"):
        Files(source=str(folder), on_error="skipp")
