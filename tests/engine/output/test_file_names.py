"""Any list of names gives as many files, on every file system."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.data.files import Files
from engine.data.image import write_rgb
from engine.output.draw import Album
from engine.output.file_names import FileNames
from engine.record import Meta

# Names that meet often: few letters, in both cases, with what file systems forbid or fold.
TEXT = st.one_of(
    st.text(alphabet="aA b_.-/\\\n\x00\ud800éE\u0301ßSsıİ1", max_size=6),
    st.text(max_size=20),
    st.sampled_from(["é" * 200, "x" * 300, "X" * 300, "", "..", "-2", "a-2", "a_b-2", "CON"]),
)


def folded(name: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(TEXT, max_size=12), st.sampled_from([".jpg", ".mp4", ".json"]))
@example(["a b", "a_b", "A B", "a_b-2"], ".jpg")
@example(["\u00e9", "e\u0301", "É"], ".jpg")
@example(["x" * 300, "x" * 301, "X" * 299], ".jpg")
def test_as_many_files_as_names(texts, suffix):
    taken = ["matches_0.jpg", "A" + suffix]
    names = FileNames(suffix, taken)
    made = [names.of(i, text) for i, text in enumerate(texts)]
    for fold in (str, str.casefold, folded):
        assert len({fold(name) for name in [*made, *taken]}) == len(made) + len(taken)
    for name in made:
        assert len(name.encode()) <= 255 and name.endswith(suffix)
        assert name[0] not in ".-" and not set(name) & set("/\\\x00\n ")
        assert name.isprintable()
    assert [names.of(i, "anything") for i in range(len(made))] == made  # asked again


def test_readable_names_stay_as_they_are():
    names = FileNames(".jpg")
    made = {
        "p1": "p1", "a b": "a_b", "a_b": "a_b-2", "日本": "日本", "été": "été", 'x"y': "x_y",
        "d1/x.jpg": "d1_x.jpg", "-a": "_a", ".a": "_a-2", "P1": "P1-2",
    }  # fmt: skip
    assert [names.of(text, text) for text in made] == [f"{name}.jpg" for name in made.values()]


def test_many_equal_names_take_no_quadratic_time():
    names = FileNames(".jpg")
    assert len({names.of(i, "😀") for i in range(20_000)}) == 20_000


FOUND = ["a b.jpg", "a_b.jpg", "a.jpg", "a.png", "a.jpg.png", "b/x.jpg", "c/x.jpg", "-x.png"]


def test_every_image_of_a_folder_has_an_id_and_a_drawing(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    for name in FOUND:
        write_rgb(str(tmp_path / "in" / name), image)
    data = Files(source=str(tmp_path / "in"))
    ids = [data.record(i).id for i in range(len(data))]
    assert len(set(ids)) == len(FOUND)
    with Album(tmp_path / "out") as album:
        for _ in range(2):  # as two evaluations do
            for i, name in enumerate(ids):
                album.add(image, Meta(i, name, data.record(i).path, (4, 4), np.eye(2, 3)))
    assert len(list((tmp_path / "out").iterdir())) == len(FOUND)


@pytest.mark.parametrize("path", ["a b.avi", "-x.mov", "é" * 120 + ".mp4", "..avi"])
def test_a_video_has_a_name_a_file_system_takes(path, tmp_path):
    with Album(tmp_path, rate=5.0) as album:
        for i in range(3):
            meta = Meta(i, f"f{i}", f"/in/{path}", (32, 32), np.eye(2, 3))
            album.add(np.full((32, 32, 3), 80 * i, np.uint8), meta)
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".mp4" and file.name[0] not in ".-" and len(file.name.encode()) <= 255
