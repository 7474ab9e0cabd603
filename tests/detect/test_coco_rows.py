import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detect.datasets import coco_rows
from detect.datasets.coco_rows import Columns
from detect.datasets.digits import parse_decimals

FLOATS = st.floats(-1e15, 1e15).filter(lambda x: "e" not in repr(x))


@given(st.lists(st.integers(-(10**17) + 1, 10**17 - 1) | FLOATS, min_size=1))
def test_numbers_are_those_that_python_reads(values):
    found = parse_decimals(json.dumps(values).encode())
    if found is None:  # a float of more than 18 digits, as 0.0001234567890123456789
        assert any(len(repr(v).lstrip("-").replace(".", "")) > 18 for v in values)
    else:
        assert found.tolist() == [float(v) for v in values]


@pytest.mark.parametrize("text", [b"1.2.3", b"1-2", b"--1", b".5", b"5.", b"-", b"007", b"-.5"])
def test_what_json_does_not_know_as_a_number_is_none(text):
    assert parse_decimals(b"1," + text + b",2") is None and parse_decimals(text) is None


def read(folder, text):
    """All of a file by key, columns turned back to rows; and how many rows came as columns."""
    path = folder / "file.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    whole, fast = {}, 0
    for key, value in coco_rows.read(str(path), ("rows",)):
        if isinstance(value, Columns):
            value = value.rows()
            fast += len(value)
        whole[key] = whole[key] + value if key in whole else value
    return whole, fast


def rows(count, seed=0, polygon=lambda i: [[1, 2.5, i]]):
    rng = np.random.default_rng(seed)
    return [
        {
            "segmentation": polygon(i),
            "area": round(float(rng.uniform(0, 1e5)), 4),
            "bbox": rng.uniform(0, 600, 4).round(2).tolist(),
            "id": i,
        }
        for i in range(count)
    ]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(coco_rows, "WINDOW", 1 << 12)


@pytest.mark.parametrize("style", [{}, {"indent": 1}, {"separators": (",", ":")}])
@pytest.mark.parametrize("polygon", [lambda i: [], lambda i: [[i, 2.5]], lambda i: [[1] * (i % 7)]])
def test_rows_written_alike_are_read_as_columns(tmp_path, style, polygon):
    data = {"info": {"é": [1]}, "rows": rows(500, polygon=polygon), "last": "}]"}
    found, fast = read(tmp_path, json.dumps(data, **style))
    assert fast > 400  # all but those at the end of the list
    for row in (*found["rows"], *data["rows"]):
        row.pop("segmentation", None)  # passed over where they differ
    assert found == data


@pytest.mark.parametrize(
    "odd",
    [
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, 3, 4], "area": 1e-7, "id": 3},
        {"id": "3"},
        {"id": None, "text": 'a } ], "rows": [{'},
        {"segmentation": {"counts": "1} ,{", "size": [1, 2]}},
        {"segmentation": [], "area": float("nan"), "bbox": [1, 2, 3, 4], "id": 9},
        7,
        [[{"a": 1}, {"b": 2}]],
    ],
)
@pytest.mark.parametrize("at", [0, 250, 499])
def test_an_odd_row_is_read_as_json(tmp_path, odd, at):
    data = {"rows": rows(500, polygon=lambda i: [])}
    data["rows"][at] = odd
    found, _ = read(tmp_path, json.dumps(data, ensure_ascii=False))
    assert len(found["rows"]) == 500
    for one, other in zip(found["rows"], data["rows"], strict=True):
        assert one == other or repr(one) == repr(other)  # NaN


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
