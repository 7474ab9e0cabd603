"""Whatever lies in the place of a file is refused by its name, before it is waited for or read.

Each reader beside each kind: what is no regular file, and one of 8 GiB of zeros (sparse, it takes
no room on the disk). Images in a data set are in `test_corpus.py`.
"""

import contextlib
import functools
import os
import re
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from corpus import good_coco, good_csv, good_voc, good_yolo, tree_hash
from torch import nn

from classify.datasets.csv_labels import CSVLabels
from detect.datasets.coco import COCO
from detect.datasets.coco_truth import COCOTruth
from detect.datasets.csv import CSV
from detect.datasets.voc import VOC
from detect.datasets.yolo import YOLO
from engine.check.statistics import suspicious_class_names
from engine.data.files import Files
from engine.data.frames import Video
from engine.data.image import image_size_of, read_rgb
from engine.data.image_dataset import MAX_CLASSES, check_classes
from engine.data.read_json import read_json
from engine.data.splits import LONGEST_ROW, list_rows
from engine.data.table import LONGEST, read_table
from engine.errors import UserError
from engine.weights import checkpoint, weights_file

MEGABYTES = 20


def zeros(path, size=2**33):
    with open(path, "wb") as file:
        file.truncate(size)


def linked(target, path):
    Path(path).symlink_to(target)


KINDS = {
    "pipe": (os.mkfifo, "a pipe|no such file"),
    "zero": (functools.partial(linked, "/dev/zero"), "a device|no such file"),
    "folder": (os.mkdir, "a folder"),
    "loop": (lambda path: linked(path, path), "(?i)symbolic links|no such file"),
    "zeros": (zeros, "bytes|characters|binary data|no file of torch's"),
}


def split(dataset, root, **options):
    return functools.partial(dataset, root=str(root), split="train", **options)


def voc(root):
    good_voc(root)
    return root / "Annotations/a.xml", split(VOC, root)


def voc_list(root):
    good_voc(root)
    return root / "ImageSets/Main/train.txt", split(VOC, root)


def yolo(root):
    good_yolo(root)
    return root / "labels/train/a.txt", split(YOLO, root)


def yolo_classes(root):
    good_yolo(root)
    return root / "classes.txt", split(YOLO, root)


def yolo_yaml(root):
    good_yolo(root)
    return root / "data.yaml", split(YOLO, root)


def csv(root):
    good_csv(root)
    return root / "train.csv", split(CSV, root)


def csv_labels(root):
    good_csv(root)
    return root / "all", split(CSVLabels, root, annotations=f"{root}/all")


def csv_list(root):
    good_csv(root)
    table = (root / "train.csv").rename(root / "all")
    (root / "val.csv").unlink()
    (root / "lists").mkdir()
    lists = str(root / "lists")
    return root / "lists/train.txt", split(CSV, root, annotations=str(table), splits=lists)


def coco(root):
    good_coco(root)
    file, images = root / "truth.json", str(root / "images")
    return file, lambda: COCO(annotations=str(file), images=images, split="train")


READERS = {
    **{f.__name__: f for f in (voc, voc_list, yolo, yolo_classes, yolo_yaml, csv, csv_labels)},
    **{f.__name__: f for f in (csv_list, coco)},
    "truth": lambda root: (root / "a", lambda: COCOTruth(annotations=f"{root}/a")),
    "predictions": lambda root: (root / "a", lambda: read_json(root / "a")),
    "checkpoint": lambda root: (
        root / "a", lambda: checkpoint.read(f"{root}/a", torch.device("cpu"))),
    "weights": lambda root: (root / "a", lambda: weights_file.read(root / "a", nn.Identity(), ())),
    "darknet": lambda root: (
        root / "a.weights", lambda: weights_file.read(root / "a.weights", nn.Identity(), ())),
    "image": lambda root: (root / "a.jpg", lambda: read_rgb(f"{root}/a.jpg")),
    "header": lambda root: (root / "a.jpg", lambda: image_size_of(f"{root}/a.jpg")),
    "video": lambda root: (root / "a.avi", lambda: Video(source=f"{root}/a.avi")),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_such_file_is_refused_by_name(tmp_path, reader, kind):
    path, read = READERS[reader](tmp_path)
    path.unlink(missing_ok=True)
    KINDS[kind][0](path)
    if (reader, kind) == ("video", "zeros"):
        pytest.skip("OpenCV's own: refused, as it finds no frame")
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=KINDS[kind][1]) as refused:
            read()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.name in str(refused.value) and "\n" not in str(refused.value)
    assert most < MEGABYTES * 2**20


def test_a_pipe_among_the_images_to_predict_is_not_passed_over(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    data = Files(source=str(tmp_path))
    with pytest.raises(UserError, match="a.jpg: expected a regular file, got a pipe"):
        data.image(0)


@pytest.mark.skipif(not os.path.exists("/proc/kmsg"), reason="needs /proc")
def test_a_file_that_states_no_bytes_is_empty_and_never_waited_for():
    with pytest.raises(UserError, match=r"the file is empty|Operation not permitted"):
        read_rgb("/proc/kmsg")


def test_a_line_without_end_is_refused(tmp_path):
    zeros(tmp_path / "a.csv", LONGEST + 2**20)
    with pytest.raises(UserError, match="a.csv: a line of more than 16777216 characters"):
        list(read_table(tmp_path / "a.csv", {"file": "filename"}))
    (tmp_path / "a.txt").write_text("a\n" + "b" * (LONGEST_ROW + 1))
    with pytest.raises(UserError, match=r"a.txt, row 2: 131073 characters"):
        list(list_rows(tmp_path / "a.txt"))


def test_a_jpeg_of_more_pixels_than_its_bytes_can_hold_is_cut_short(tmp_path):
    good_csv(tmp_path)
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (14_000).to_bytes(2, "big") * 2
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(UserError, match="a.jpg: the JPEG is cut short"):
        read_rgb(f"{tmp_path}/a.jpg")


def test_a_gif_of_more_pixels_than_its_decoder_takes_in_little_memory_is_refused(tmp_path):
    sides = (14_000).to_bytes(2, "little") * 2
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + sides + bytes(3) + b"," + bytes(30))
    with pytest.raises(UserError, match="a.gif: 14000 x 14000 pixels, more than 50 million"):
        read_rgb(f"{tmp_path}/a.gif")


@pytest.mark.parametrize("name", ["a.bmp", "a.png", "a.ppm", "a.tif"])
def test_opencv_adds_no_lines_of_its_own(tmp_path, name, capfd):
    _, data = cv2.imencode(name[1:], np.zeros((64, 64, 3), np.uint8))
    (tmp_path / name).write_bytes(data.tobytes()[: len(data) * 2 // 3])
    with contextlib.suppress(UserError):  # a TIFF's directory may stand behind the cut
        read_rgb(f"{tmp_path}/{name}")
    assert capfd.readouterr() == ("", "")


def test_classes_without_end_are_refused_and_twins_counted():
    assert len(check_classes(range(MAX_CLASSES))) == MAX_CLASSES
    with pytest.raises(UserError, match="100001 names, expected at most 100000"):
        check_classes(range(MAX_CLASSES + 1))
    with pytest.raises(UserError, match="got 'cat' 2 times among 3 names"):
        check_classes(["cat", "dog", "cat"])


def test_misspelt_names_are_looked_for_in_ten_thousand_classes():
    rare = {f"c{number}": 1 for number in range(10_000)}
    (hint,) = suspicious_class_names({"train": {"classes": {"dgo": 1, "dog": 200, "cat": 5}}})
    assert re.match("'dgo' has 1 of the objects, 'dog' 200", hint)
    assert list(suspicious_class_names({"train": {"classes": rare | {"dog": 50}}})) == []
    many = rare | {f"k{number}": 900 for number in range(10_000)}
    assert list(suspicious_class_names({"train": {"classes": many}})) == []


def test_nothing_of_a_good_set_changes(tmp_path):
    good_yolo(tmp_path)
    before = tree_hash(tmp_path)
    assert len(split(YOLO, tmp_path)()) == 4 and tree_hash(tmp_path) == before
