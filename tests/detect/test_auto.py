"""`dataset=auto`: what a folder is taken for, read, is the truth that it was written from."""

import re

import layouts
import pytest
import sets

from detect.datasets.auto import Auto
from engine.errors import UserError


@pytest.mark.parametrize(
    "write", [*layouts.VOC, *layouts.YOLO, *layouts.COCO], ids=lambda write: write.__name__
)
def test_a_layout_is_found_and_reads_as_the_truth(tmp_path, write):
    root = tmp_path / "set"
    write(root)
    assert layouts.chosen(root)[0] == write.__name__.partition("_")[0]
    parts = [layouts.read(root, split) for split in ("train", "val")]
    assert layouts.truth(*parts) == layouts.TRUTH
    assert parts[0].classes == parts[1].classes == sets.CLASSES


def test_a_share_is_held_out_aloud_where_there_is_no_val(tmp_path):
    layouts.voc_one_folder(tmp_path / "set")
    val = layouts.read(tmp_path / "set", "val")
    assert len(val) == 1 and "1 of the 3 training images are held out" in val.notes[0]


def test_two_readings_are_both_named(tmp_path):
    layouts.voc_one_folder(tmp_path / "set")
    sets.write_coco(tmp_path / "set", {"train": ["a"]})
    with pytest.raises(UserError, match="fits 2 layouts") as error:
        layouts.chosen(tmp_path / "set")
    for option in ("voc", "coco"):
        assert f"dataset={option} dataset.root={tmp_path}/set" in str(error.value)


def test_the_line_names_the_choice_and_how_to_set_it(tmp_path):
    layouts.voc_official(tmp_path / "my set")
    line = Auto.choose({"root": str(tmp_path / "my set")})[2]
    assert re.fullmatch(r"dataset=auto takes .*/my set for PASCAL VOC \(3 XML files, .*", line)
    assert line.endswith(f"set dataset=voc dataset.root='{tmp_path}/my set'")


def test_what_fits_nothing_is_refused_in_one_line(tmp_path):
    sets.images(tmp_path / "images")
    with pytest.raises(
        UserError, match="has 3 images and no file of annotations, which fits no layout"
    ):
        layouts.chosen(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        layouts.chosen(tmp_path / "gone")
    with pytest.raises(UserError, match=r"set dataset\.root=FOLDER"):
        Auto.choose({})


def test_hidden_folders_and_archive_leftovers_are_no_data(tmp_path):
    layouts.voc_one_folder(tmp_path / "set")
    for place in (".cache", "__MACOSX"):
        layouts.voc_one_folder(tmp_path / "set" / place)
    (tmp_path / "set/._a.png").write_bytes(b"notes")
    (tmp_path / "set/._a.xml").write_bytes(b"notes")
    assert len(layouts.read(tmp_path / "set", val_share=0)) == 3


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    layouts.voc_images_annots(tmp_path / "there")
    (tmp_path / "set").mkdir()
    for name in ("images", "annots"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "there" / name)
    (tmp_path / "there/images/up").symlink_to(tmp_path / "there")
    assert layouts.truth(layouts.read(tmp_path / "set", val_share=0)) == layouts.TRUTH


def test_annotations_without_an_image_or_with_two(tmp_path):
    root = tmp_path / "set"
    layouts.voc_one_folder(root)
    layouts.write_xml(root / "old", ["a"])
    with pytest.raises(UserError, match=r"old/a\.xml: a\.png has an annotation already, a\.xml"):
        layouts.read(root)
    (root / "old/a.xml").rename(root / "old/z.xml")
    data = layouts.read(root, on_error="skip", val_share=0)
    assert len(data) == 3 and "no image z.jpg" in data.report[0]["reason"]


def test_lists_divide_a_set_without_image_sets(tmp_path):
    layouts.voc_without_lists(tmp_path / "set")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n")
    parts = [layouts.read(tmp_path / "set", s, splits=str(lists)) for s in ("train", "val")]
    assert [len(part) for part in parts] == [2, 1] and layouts.truth(*parts) == layouts.TRUTH
