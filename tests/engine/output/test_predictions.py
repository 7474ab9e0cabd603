import json
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UserError
from engine.output import predictions, read_predictions
from engine.output.predictions import Category
from engine.record import Meta, Record
from engine.structures import BACKGROUND, Objects

CATEGORIES = [Category(5, "cat"), Category(90, "dog")]
PATHS = {3: "x/a.jpg", 7: "x/b.jpg", "000012": "x/000012.jpg"}


class ImageDataset:
    """Three images: ids 3 and 7, and one whose id is its file's stem."""

    def __init__(self, paths=PATHS):
        self.classes, self.report, self.paths = ["cat", "dog"], [], paths

    def __len__(self):
        return len(self.paths)

    def record(self, index):
        id = list(self.paths)[index]
        return Record(id, self.paths[id], np.array([index % 2]), np.array([[0, 0, index + 1, 9]]))

    def image(self, index):
        raise AssertionError("no image is opened")


def row(**change):
    return {"image_id": 3, "category_id": 5, "bbox": [1, 2, 3, 4], "score": 0.5} | change


def read(folder, data, dataset=None):
    path = folder / "predictions.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return read_predictions.read(path, dataset or ImageDataset(), CATEGORIES)


def metas():
    return [Meta(i, *item, (9, 9), np.eye(2, 3)) for i, item in enumerate(PATHS.items())]


def rows(*arguments):
    return [json.loads(line) for line in predictions.lines(*arguments)]


def test_rows_by_hand():
    objects = Objects(
        torch.tensor([[1.0, 2, 4, 6], [0, 0, 1, 1]]),
        torch.tensor([1, 0]),
        torch.tensor([2, 0]),
        torch.tensor([0.25, 1]),
    )
    assert rows(objects, metas(), CATEGORIES) == [
        {
            "image_id": "000012",
            "file_name": "000012.jpg",
            "category_id": 90,
            "category_name": "dog",
            "bbox": [1, 2, 3, 4],
            "score": 0.25,
        },
        {
            "image_id": 3,
            "file_name": "a.jpg",
            "category_id": 5,
            "category_name": "cat",
            "bbox": [0, 0, 1, 1],
            "score": 1,
        },
    ]


def test_a_row_is_what_json_writes():
    objects = Objects(torch.tensor([[0.1, 2, 1e-9, 6e7]]), torch.tensor([0]), torch.tensor([1]))
    categories = [Category(5, 'c"\u00e9\udcff\n')]
    (line,) = predictions.lines(objects, metas(), categories)
    assert line == json.dumps(json.loads(line)) and "\\udcff" in line


def test_rows_of_frames_have_the_number_of_the_frame():
    one = Objects(torch.tensor([[1.0, 2, 4, 6]]), torch.tensor([1]), torch.tensor([2]))
    (line,) = predictions.lines(one, metas(), CATEGORIES, True)
    assert json.loads(line)["frame"] == 2 and line == json.dumps(json.loads(line))


side = st.tuples(*[st.floats(0, 5000, width=32)] * 2).map(sorted)
thing = st.tuples(side, side, st.integers(0, 1), st.integers(0, 2), st.floats(0, 1, width=32))


@given(st.lists(thing, max_size=20))
@settings(max_examples=200, deadline=None)
def test_reading_gives_back_every_bit(tmp_path_factory, things):
    boxes = [[x[0], y[0], x[1], y[1]] for x, y, *_ in things]
    labels, image, scores = (torch.tensor([t[i] for t in things]) for i in (2, 3, 4))
    objects = Objects(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels.long(),
        image.long(),
        scores.float(),
    )
    path = tmp_path_factory.getbasetemp() / "bits.json"
    with closing(predictions.Writer(path, CATEGORIES)) as writer:
        writer.add(objects, metas())
    found = read_predictions.read(path, ImageDataset(), CATEGORIES)
    read_back_by_image = Objects.by_image(found.table)
    assert set(read_back_by_image) == set(image.tolist())
    assert not found.unknown and not found.notes
    for index, read_back in read_back_by_image.items():
        expected = objects.of(index)
        for field in ("boxes", "labels", "batch_index", "scores", "ignore"):
            got, wanted = getattr(read_back, field), getattr(expected, field)
            assert got.dtype == wanted.dtype
            assert torch.equal(got, wanted)


def test_images_are_found_by_id_then_by_stem(tmp_path):
    data = [row(image_id=i, score=s) for i, s in ((7, 0.1), ("b", 0.2), ("000012", 1), ("a", 0))]
    found = read(tmp_path, data)
    assert list(zip(found.table.image, found.table.scores, strict=True)) == [
        (1, 0.1), (1, 0.2), (2, 1), (0, 0)
    ]  # fmt: skip


def test_rows_of_other_images_are_counted(tmp_path):
    found = read(tmp_path, [row(), row(image_id=4), row(image_id=4), row(image_id="c")])
    assert found.table.image.tolist() == [0]
    assert found.unknown == {4: 2, "c": 1}


def test_a_stem_of_two_files_names_neither(tmp_path):
    dataset = ImageDataset({1: "x/a.jpg", 2: "y/a.jpg"})
    found = read(tmp_path, [row(image_id="a"), row(image_id=2)], dataset)
    assert (found.table.image.tolist(), found.unknown) == ([1], {"a": 1})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (3, "got 3, expected"),
        ({"image_id": 3}, r"got {'image_id': 3}, expected {\"image_id\""),
        (row(bbox=None), "expected {"),
        (row(bbox=[1, 2, 3]), r"got bbox \[1, 2, 3\], score 0.5, expected .* finite"),
        (row(bbox=[1, 2, 3, float("nan")]), "finite numbers"),
        (row(bbox=[1, 2, 3, 1e39]), "finite numbers"),
        (row(bbox=[1, 2, "3", 4]), "finite numbers"),
        (row(score=float("inf")), "score inf, expected .* finite"),
        (row(score="0.9"), "score '0.9', expected"),
        (row(category_id=[5]), "expected image_id and category_id to be numbers or texts"),
        (row(image_id=[3]), "expected image_id and category_id to be numbers or texts"),
    ],
)
def test_a_bad_row_names_file_and_row(tmp_path, bad, message):
    with pytest.raises(UserError, match=rf"predictions\.json, row 2: .*{message}"):
        read(tmp_path, [row(), bad])


@pytest.mark.parametrize(
    ("data", "message"), [("{", "got no JSON"), ("{}", "got a dict, expected a list of rows")]
)
def test_another_file_is_refused(tmp_path, data, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, data)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"gone\.json: No such file .* check the path"):
        read_predictions.read(tmp_path / "gone.json", ImageDataset(), CATEGORIES)


def test_no_nan_is_written():
    objects = Objects(torch.tensor([[0, 0, 1, float("nan")]]), torch.tensor([0]), torch.tensor([1]))
    with pytest.raises(UserError, match=r"x/b\.jpg: got box .* expected finite numbers"):
        predictions.lines(objects, metas(), CATEGORIES)


class Digests:
    """A metric that keeps what it is given."""

    primary = "count"
    requires = frozenset()
    protocol = "counts"

    def reset(self):
        self.calls = []

    def update(self, predicted, true, meta):
        self.calls.append((predicted.scores.tolist(), true.boxes.tolist(), [m[:3] for m in meta]))

    def compute(self):
        return {"count": float(len(self.calls))}


def test_score_feeds_every_image(tmp_path):
    metric = Digests()
    found = read(tmp_path, [row(image_id=7, score=0.5), row(image_id=7, score=0.25)])
    assert read_predictions.score(ImageDataset(), metric, found.table) == {"count": 3}
    assert metric.calls == [
        ([], [[0, 0, 1, 9]], [(0, 3, "x/a.jpg")]),
        ([0.5, 0.25], [[0, 0, 2, 9]], [(1, 7, "x/b.jpg")]),
        ([], [[0, 0, 3, 9]], [(2, "000012", "x/000012.jpg")]),
    ]


def test_a_box_of_no_class_has_no_category():
    alone = Objects(torch.tensor([[1.0, 2, 4, 6]]), torch.tensor([BACKGROUND]))
    assert rows(alone, metas(), CATEGORIES)[0]["category_id"] == 0


def test_a_box_of_no_class_has_an_id_that_no_category_has():
    alone = Objects(torch.tensor([[1.0, 2, 4, 6]]), torch.tensor([BACKGROUND]))
    (found,) = rows(alone, metas(), [Category(0, "cat")])
    assert found["category_id"] == -1 and "category_name" not in found


def test_rows_of_other_categories_are_counted(tmp_path):
    found = read(tmp_path, [row(), row(category_id=1), row(category_id="5")])
    assert found.table.image.tolist() == [0] and found.unlisted == {1: 1, "5": 1}


@pytest.mark.parametrize("number", [3.0, 3])
def test_a_whole_number_is_one_however_it_is_written(number, tmp_path):
    found = read(tmp_path, [row(image_id=number, category_id=90.0)])
    assert (found.table.image.tolist(), found.table.labels.tolist()) == ([0], [1])


def test_a_number_is_no_file_name_where_images_have_numbers(tmp_path):
    dataset = ImageDataset({1: "x/2.jpg", 4: "x/3.jpg"})
    found = read(tmp_path, [row(image_id=2), row(image_id="3"), row(image_id=4)], dataset)
    assert (found.table.image.tolist(), found.unknown) == ([1, 1], {2: 1})


def test_a_negative_side_is_told(tmp_path):
    assert read(tmp_path, [row(bbox=[9, 9, -3, 4])]).notes == [
        "rows with a negative width or height: 1; they match no object"
    ]


def test_a_mask_without_a_box_has_the_box_around_it(tmp_path):
    # column by column in an image of 4 x 5: 5 pixels of 0, then 2 of 1 (x 1, y 1..2), the rest 0
    code = {"size": [4, 5], "counts": [5, 2, 13]}
    mask = {"image_id": 3, "category_id": 5, "score": 1, "segmentation": code}
    table = read(tmp_path, [mask]).table
    assert (table.boxes.tolist(), table.area.tolist()) == ([[1, 1, 1, 2]], [2])
    with pytest.raises(UserError, match="row 1: got segmentation .*expected run-length code"):
        read(tmp_path, [mask | {"segmentation": 3}])
