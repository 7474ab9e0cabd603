import json

import numpy as np
import pytest

from detect.bench import index
from detect.datasets.coco import COCO


@pytest.mark.slow
def test_the_file_is_what_every_reader_takes_and_all_say_what_they_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(index.write, "__kwdefaults__", {"images": 30, "boxes": 400})
    rows = index.measure(seed=0, repeats=1)
    assert {"json", "onelook", "pycocotools", "torchvision"} <= {row["reader"] for row in rows}
    for row in rows:
        assert 0 < row["seconds"] == row["slowest"] and row["busy"] > 0
        assert row["peak_mb"] > 5
    index.write(tmp_path / "one.json", seed=0)
    index.write(tmp_path / "two.json", seed=0)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    data = COCO(annotations=str(tmp_path / "one.json"))
    assert (len(data), len(data.index.labels), data.report) == (30, 400, [])
    truth = json.loads((tmp_path / "one.json").read_text())
    first = [row["bbox"] for row in truth["annotations"] if row["image_id"] == data.record(0).id]
    x, y, w, h = np.array(first).T
    corners = np.stack([x, y, x + w, y + h], 1).astype(np.float32)
    assert np.array_equal(data.record(0).boxes, corners)
