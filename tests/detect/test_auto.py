"""`dataset=auto`: what a folder is taken for, read, is the truth that it was written from."""

import re

import layouts
import pytest
import sets

from detect.datasets.auto import Auto
from detect.datasets.csv import CSV as CSVBoxes
from engine.errors import UserError


@pytest.mark.parametrize("write", layouts.ALL, ids=lambda write: write.__name__)
def test_a_layout_is_found_and_reads_as_the_truth(tmp_path, write):
    root = tmp_path / "set"
    write(root)
    assert layouts.chosen(root)[0] == write.__name__.partition("_")[0]
    parts = [layouts.read(root, split) for split in ("train", "val")]
    assert layouts.truth(*parts) == layouts.TRUTH
    assert parts[0].classes == parts[1].classes == sets.CLASSES


@pytest.mark.parametrize("write", layouts.LABELS, ids=lambda write: write.__name__)
def test_a_layout_of_labels_is_found(tmp_path, write):
    root = tmp_path / "set"
    write(root)
    assert write.__name__.startswith(layouts.chosen(root)[0])
    parts = [layouts.read(root, split) for split in ("train", "val")]
    records = [data.record(i) for data in parts for i in range(len(data))]
    names = [(r.path[-5], [parts[0].classes[n] for n in r.labels]) for r in records]
    assert sorted(names) == [("a", ["cat"]), ("b", ["dog"]), ("c", ["dog"])]
    assert records[0].boxes is None


def test_labels_beside_folders_of_classes_are_two_readings(tmp_path):
    layouts.image_folder_classes(tmp_path)
    (tmp_path / "Animals/labels.csv").write_text("file,breed\na,pug\nb,lab\nc,lab\n")
    with pytest.raises(UserError, match="fits 2 layouts.*dataset=csv_labels .*dataset=image_fold"):
        layouts.chosen(tmp_path)


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
    assert line.endswith(f"set dataset=voc \"dataset.root='{tmp_path}/my set'\"")
    layouts.csv_roboflow(tmp_path / "two")
    line = Auto.choose({"root": str(tmp_path / "two")})[2]
    assert ' "dataset.annotations={train:/' in line  # a shell would take the braces apart


def test_the_line_quotes_what_the_command_line_cannot_read(tmp_path):
    layouts.voc_official(tmp_path / "Größe")
    line = Auto.choose({"root": str(tmp_path / "Größe")})[2]
    assert line.endswith(f"set dataset=voc \"dataset.root='{tmp_path}/Größe'\"")


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


def text_table(root, *rows):
    sets.images(root)
    (root / "boxes.csv").write_text("image,bbox,label\n" + "".join(f"{row}\n" for row in rows))
    return layouts.chosen(root)[1].get("box")


def test_four_numbers_are_what_fits_every_image(tmp_path):
    # 30 + 40 > 64 as sides, so corners; 40 < 50 as corners, so sides.
    assert text_table(tmp_path / "1", 'a.png,"[30, 2, 40, 9]",cat') == "corners"
    assert text_table(tmp_path / "2", 'a.png,"[50, 2, 10, 9]",cat', "c.png,(1 2 3 4),cat") == "xywh"
    with pytest.raises(UserError, match="fits 2 layouts.*box=corners.*box=xywh"):
        text_table(tmp_path / "3", 'a.png,"[5, 2, 10, 9]",cat')


def test_a_table_whose_class_may_be_two_columns_names_both(tmp_path):
    sets.images(tmp_path)
    (tmp_path / "x.csv").write_text("photo,breed,mood\na,pug,glad\nb,pug,sad\nc,lab,glad\n")
    with pytest.raises(UserError, match=r"columns\.label=breed.*columns\.label=mood"):
        layouts.chosen(tmp_path)


def labels_table(root, *cells):
    sets.images(root)
    rows = (f"{name},{cell}" for name, cell in zip("abc", cells, strict=True))
    (root / "tags.csv").write_text("\n".join(["photo,tags", *rows]) + "\n")
    return layouts.chosen(root)[1].get("separator")


def test_a_label_that_is_in_several_cells_shows_that_they_are_lists(tmp_path):
    assert labels_table(tmp_path / "1", "cat|dog", "dog", "emu") == "|"
    assert labels_table(tmp_path / "2", "cat;dog", "dog;emu", "emu;cat") == ";"
    assert labels_table(tmp_path / "3", "cat", "dog", "emu") is None
    with pytest.raises(UserError, match=r"fits 2 layouts.*label=tags; or .*separator='\|'"):
        labels_table(tmp_path / "4", "cat|dog", "cat|dog", "emu")


def test_a_column_of_splits_is_no_class(tmp_path):
    layouts.csv_split_column(tmp_path)
    option, values = layouts.chosen(tmp_path)
    assert (option, values["columns.split"], values["columns.class"]) == ("csv", "set", "label")
    train = layouts.read(tmp_path)
    assert train.notes == [] and len(train) == 2  # image c has a row, of another split


def test_shares_are_never_taken_for_pixels(tmp_path):
    layouts.csv_shares(tmp_path / "set")
    values = layouts.nested(layouts.chosen(tmp_path / "set")[1])
    assert values.pop("units") == "shares"
    with pytest.raises(UserError, match="every box lies within 0 to 1"):
        CSVBoxes(**values, split="train")
    layouts.csv_corners(tmp_path / "pixels")
    with pytest.raises(UserError, match=r"row 2: .*: expected shares of the image, not pixels"):
        CSVBoxes(root=str(tmp_path / "pixels"), split="train", units="shares")


def test_two_files_that_end_alike_are_not_one(tmp_path):
    sets.images(tmp_path)
    rows = "/x/a.png,1,2,3,4,cat\n/y/a.png,5,6,7,8,cat\n"
    (tmp_path / "boxes.csv").write_text(rows)
    with pytest.raises(UserError, match=r"'/y/a\.png' is a\.png here, as x/\.\.\. is: one is not"):
        layouts.read(tmp_path)


def test_one_class_where_no_column_names_it(tmp_path):
    sets.images(tmp_path)
    (tmp_path / "boxes.csv").write_text("image,x1,y1,x2,y2\na.png,1,2,3,4\nc.png,1,2,9,4\n")
    assert layouts.read(tmp_path).classes == ["object"]


@pytest.mark.parametrize(
    ("write", "file"),
    [
        (layouts.yolo_other_folders, "data.yaml"),
        (layouts.yolo_cvat, "obj.data"),
        (layouts.coco_beside, "labels_my-project_2024-01-01.json"),
        (layouts.csv_makesense, "labels_my-project.csv"),
        (layouts.via_project, "via_project.json"),
        (layouts.cvat_task, "annotations.xml"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_file_in_place_of_its_folder(tmp_path, write, file):
    write(tmp_path / "set")
    parts = [layouts.read(tmp_path / "set" / file, split) for split in ("train", "val")]
    assert layouts.truth(*parts) == layouts.TRUTH


def test_one_image_by_two_spellings_keeps_all_its_objects(tmp_path):
    sets.images(tmp_path / "in")
    rows = ["in/a.png,cat,1,2,3,4", "./in//a.png,cat,5,6,7,8", "in\\a.png,cat,1,1,9,9"]
    (tmp_path / "train.csv").write_text("\n".join(["image,label,x1,y1,x2,y2", *rows]) + "\n")
    data = layouts.read(tmp_path, val_share=0)
    assert len(data) == 1 and len(data.record(0).labels) == 3
