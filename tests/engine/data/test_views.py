import numpy as np
import pytest

from detect.datasets.voc import VOC
from engine.data.views import VIEWS, apply_view, check_view
from engine.errors import UserError
from engine.record import Record
from engine.structures import Objects

# Areas 100, 400, 900 (ignored), 400.
BOXES = np.array([[0, 0, 10, 10], [5, 5, 25, 25], [0, 0, 30, 30], [1, 1, 21, 21]], np.float32)
LABELS = np.array([2, 0, 1, 2])
IGNORE = np.array([True, False, True, False])


def record(rows=(0, 1, 2, 3)):
    rows = list(rows)
    return Record("a", "a.jpg", LABELS[rows], BOXES[rows], IGNORE[rows], BOXES[rows, 2])


def test_all_is_the_record_itself():
    whole = record()
    assert apply_view(whole, "all") is whole


@pytest.mark.parametrize(
    ("rows", "picked"),
    [((0, 1, 2, 3), 1), ((0, 2, 3), 3), ((0, 2), 2), ((2,), 2), ((3, 1), 3)],
)
def test_the_largest_is_one_that_counts_where_there_is_one(rows, picked):
    # 1 and 3 are alike: the first of them. The larger 2 is ignored: only where no other counts.
    one = apply_view(record(rows), "largest")
    assert one.boxes is not None and one.ignore is not None and one.area is not None
    assert one.labels.tolist() == [LABELS[picked]] and one.ignore.tolist() == [IGNORE[picked]]
    assert one.boxes.tolist() == [BOXES[picked].tolist()]
    assert one.area.tolist() == [BOXES[picked, 2]]


def test_multilabel_names_each_class_once():
    # 2 stands there ignored and not: it counts. 1 is ignored only.
    many = apply_view(record(), "multilabel")
    assert many.labels.tolist() == [0, 1, 2] and many.boxes is None and many.area is None
    assert many.ignore is not None and many.ignore.tolist() == [False, True, False]
    assert (many.id, many.path) == ("a", "a.jpg")
    objects = Objects.from_record(many, (30, 40))
    assert objects.boxes.tolist() == [[0, 0, 40, 30]] * 3


@pytest.mark.parametrize("name", VIEWS)
def test_no_object_stays_none(name):
    empty = apply_view(record(rows=()), name)
    assert len(empty.labels) == 0
    assert len(Objects.from_record(empty, (30, 40))) == 0


def test_nothing_ignored_nothing_in_boxes():
    bare = Record(1, "a", np.array([4, 4]))
    assert apply_view(bare, "largest").labels.tolist() == [4]
    many = apply_view(bare, "multilabel")
    assert many.ignore is not None and many.ignore.tolist() == [False]


def test_a_wrong_name_is_refused(shared_data):
    with pytest.raises(UserError, match=r"view is 'multi_label', expected .*mean 'multilabel'\?"):
        check_view("multi_label")
    with pytest.raises(UserError, match="dataset.view is 'big', expected one of all, largest"):
        VOC(root=str(shared_data / "voc2012_sub"), split="val", view="big")


@pytest.mark.parametrize("split", ["train", "val"])
def test_multilabel_is_what_vocs_own_lists_say(shared_data, split):
    folder = shared_data / "voc2012_sub/VOCdevkit/VOC2012"
    data = VOC(root=str(folder), split=split, view="multilabel")
    presence = {name: {} for name in data.classes}
    for i in range(len(data)):
        one = data.record(i)
        assert one.boxes is None and one.ignore is not None
        row = dict(zip(one.labels.tolist(), (1 - one.ignore).tolist(), strict=True))
        assert len(row) == len(one.labels)  # each class once
        for label, name in enumerate(data.classes):
            presence[name][one.id] = row.get(label, -1)
    for name in data.classes:
        text = (folder / "ImageSets/Main" / f"{name}_{split}.txt").read_text()
        assert presence[name] == {k: int(v) for k, v in map(str.split, text.splitlines())}, name
    assert {0, 1, -1} == {value for row in presence.values() for value in row.values()}


def test_largest_leaves_one_object_an_image(shared_data):
    root = str(shared_data / "voc2012_sub")
    one, every = (VOC(root=root, split="val", view=name) for name in ("largest", "all"))
    for i in range(len(one)):
        best, whole = one.record(i), every.record(i)
        assert best.boxes is not None and whole.boxes is not None and whole.ignore is not None
        countable = whole.boxes[~whole.ignore]
        area = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in countable.tolist()]
        if area:
            assert best.boxes.tolist() == [countable[int(np.argmax(area))].tolist()]
        assert len(best.labels) == 1
