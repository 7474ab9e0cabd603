import cv2
import numpy as np
import pytest

from engine.data.augment import Augment
from engine.data.files import Files, Video
from engine.data.loader import Loader
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


def test_frames_come_in_any_order(tmp_path):
    path = str(tmp_path / "film.avi")
    film = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
    for i in range(5):
        film.write(np.full((32, 32, 3), 50 * i, np.uint8))
    film.release()
    video = Video(source=path)
    assert len(video) == 5 and video.rate == 10
    for i in (0, 1, 4, 2, 2):
        assert abs(int(video.image(i).mean()) - 50 * i) < 5
    with pytest.raises(UserError, match="frame 9 of 5"):
        video.image(9)
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(UserError, match="not a video"):
        Video(source=str(tmp_path / "text.mp4"))


def test_on_error_is_one_of_two_words(folder):
    with pytest.raises(UserError, match="^on_error=skipp: expected fail or skip"):
        Files(source=str(folder), on_error="skipp")


@pytest.mark.parametrize("stated", [3, 4, 2_000_000, 2**31 - 1])
def test_a_video_ends_where_its_frames_end(tmp_path, stated):
    path = tmp_path / "film.avi"
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
    for _ in range(3):
        film.write(np.zeros((32, 32, 3), np.uint8))
    film.release()
    data = bytearray(path.read_bytes())
    for name, place in ((b"avih", 24), (b"strh", 40)):  # dwTotalFrames, dwLength
        data[data.index(name) + place : data.index(name) + place + 4] = stated.to_bytes(4, "little")
    path.write_bytes(data)
    video = Video(source=str(path))
    loader = Loader(dataset=video, augment=Augment(), size=(32, 32), batch_size=2)
    assert sum(len(batch.meta) for batch in loader) == len(video) == 3
    reasons = [row["reason"] for row in video.report]
    assert reasons == [f"{path}: ends after 3 of {stated} stated frames"] * (stated > 3)
