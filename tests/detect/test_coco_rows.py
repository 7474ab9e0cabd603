import json
from math import isnan

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detect.datasets import coco_columns, coco_rows

READERS = {"rows": coco_columns.annotations}


def read(folder, text):
    """All of a file by key, columns turned back to rows; and how many rows came as columns."""
    path = folder / "file.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    whole, fast = {}, 0
    for key, value in coco_rows.read(str(path), READERS):
        if isinstance(value, np.ndarray):
            value = [as_row(*numbers) for numbers in value.tolist()]
            fast += len(value)
        whole[key] = whole[key] + value if key in whole else value
    return whole, fast


def as_row(number, image, category, crowd, area, *box):
    """An annotation as COCO has it."""
    row = {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd}
    return {**row, "bbox": list(box), **({} if isnan(area) else {"area": area})}


def rows(count, seed=0, polygon=lambda i: [[1, 2.5, i]]):
    rng = np.random.default_rng(seed)
    return [
        {
            "segmentation": polygon(i),
            "area": round(float(rng.uniform(0, 1e5)), 4),
            "iscrowd": i % 2,
            "image_id": i // 3,
            "bbox": rng.uniform(0, 600, 4).round(2).tolist(),
            "category_id": i % 7,
            "id": i,
        }
        for i in range(count)
    ]


def without_polygons(rows):
    return [{k: v for k, v in row.items() if k != "segmentation"} for row in rows]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(coco_rows, "WINDOW", 1 << 12)


@pytest.mark.parametrize("style", [{}, {"indent": 1}, {"separators": (",", ":")}])
@pytest.mark.parametrize("polygon", [lambda i: [], lambda i: [[i, 2.5]], lambda i: [[1] * (i % 7)]])
def test_rows_of_annotations_are_read_as_columns(tmp_path, style, polygon):
    data = {"info": {"é": [1]}, "rows": rows(500, polygon=polygon), "last": "}]"}
    found, fast = read(tmp_path, json.dumps(data, **style))
    assert fast > 400  # all but those at the end of the list
    assert without_polygons(found["rows"]) == without_polygons(data["rows"])


PLAIN = {"id": 9, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0}
PLAIN_3 = {**PLAIN, "id": 3}


@pytest.mark.parametrize(
    "odd",
    [
        {**PLAIN, "bbox": [1, 2, 3]},
        {**PLAIN, "bbox": [1, 2, -3, 4]},
        {**PLAIN, "bbox": [3e38, 2, 3e38, 4]},
        {**PLAIN, "bbox": [1, 2, 3e30, 3e30]},
        {**PLAIN, "bbox": ["1", 2, 3, 4]},
        {**PLAIN, "area": None},
        {**PLAIN, "area": float("nan")},
        {**PLAIN, "area": 1e39},
        {**PLAIN, "id": "3"},
        {**PLAIN, "id": None, "text": 'a } ], "rows": [{'},
        {**PLAIN, "id": 2**53},
        {**PLAIN, "id": 2**70},
        {**PLAIN, "iscrowd": True},
        {**PLAIN, "iscrowd": 2},
        {**PLAIN, "image_id": 1.5},
        {**PLAIN_3, "segmentation": {"counts": "1} ,{", "size": [1, 2]}},
        {"bbox": [1, 2, 3, 4]},
        7,
        [[{"a": 1}, {"b": 2}]],
    ],
)
@pytest.mark.parametrize("at", [0, 250, 499])
def test_an_odd_row_is_read_as_json(tmp_path, odd, at):
    data = {"rows": rows(500, polygon=lambda i: [])}
    data["rows"][at] = odd
    found, _ = read(tmp_path, json.dumps(data, ensure_ascii=False))
    one = found["rows"].pop(at)
    assert repr(one) == repr(data["rows"].pop(at)) or without_polygons([one, PLAIN_3])[0] == PLAIN_3
    assert without_polygons(found["rows"]) == without_polygons(data["rows"])


@pytest.mark.parametrize(
    "number", ["0.1", "1e-7", "12345678901234567", "5e-324", "1.7e308", "-0.0"]
)
def test_numbers_are_those_that_python_reads(number):
    row = f'{{"id": 1, "image_id": 2, "category_id": 3, "bbox": [{number}, 0, 0, 0]}}'
    found = coco_columns.annotations(f"[{row}]".encode())
    value = json.loads(number)
    if abs(value) > 3.5e38:
        assert found is None
    else:
        assert repr(found[0, 5].item()) == repr(float(value)) and np.isnan(found[0, 4])


def test_images_without_a_size_have_none():
    text = (
        b'[{"id": 3, "file_name": "a.jpg"}, {"id": 1, "file_name": "b", "height": 2, "width": 4}]'
    )
    found = coco_columns.images(text)
    assert found == ([3, 1], ["a.jpg", "b"], [0, 0, 2, 4])
    assert [row["width"] for row in found.as_rows()] == [0, 4]
    assert coco_columns.images(text.replace(b"3", b'"3"')) is None
    assert coco_columns.images(text.replace(b"4", b"-4")) is None


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["rows", "a", "b"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
            lambda x: st.lists(x) | st.dictionaries(st.text(max_size=3), x),
            max_leaves=8,
        ),
    ),
    st.sampled_from([None, 1]),
)
def test_any_json_reads_as_python_reads_it(tmp_path_factory, data, indent):
    text = json.dumps(data, ensure_ascii=False, indent=indent)
    assert read(tmp_path_factory.mktemp("any"), text)[0] == data


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", '{"rows": [}', '{"rows": [{},]}', '{"rows": [{} {}]}', '{"rows": [{}], }',
        '{"rows": [{}]} x', '{"rows": [{}], "rows": []}', '{"a": 1 "b": 2}', '{"rows": [{}',
        '{3: 4}', b'{"a": "\xff"}', b'{"rows": [{"a": "\xff"}]}', '{"rows": [{"a": 007}]}',
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(tmp_path, text):
    with pytest.raises(ValueError):
        read(tmp_path, text)
