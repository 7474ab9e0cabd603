import json

import numpy as np
import pytest
import torch

from engine.errors import UserError
from engine.runtime import exported
from engine.runtime.exported import ExportedNetwork


def made(batch, calls):
    def run(images):
        calls.append(images.shape)
        count = len(images)
        scores = np.tile(np.float32([[0.9, -1.0]]), (count, 1))
        scores[:, 0] = images[:, 0, 0, 0] / 255
        return {"scores": scores, "labels": np.tile(np.int64([[1, -1]]), (count, 1))}

    return ExportedNetwork(run, batch=batch, outputs=frozenset({"logits"}), protocol="")


@pytest.mark.parametrize("batch, calls", [(1, [1, 1, 1]), (2, [2, 2]), (None, [3])])
def test_images_come_in_the_batches_that_the_file_takes(batch, calls):
    seen = []
    images = torch.tensor([51, 102, 153], dtype=torch.uint8)[:, None, None, None]
    network = made(batch, seen)
    found = network.decode(network(images.expand(3, 3, 4, 6)))
    assert [shape[0] for shape in seen] == calls
    assert found.scores.tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert found.labels.tolist() == [1, 1, 1] and found.batch_index.tolist() == [0, 1, 2]
    assert found.boxes.tolist() == [[0, 0, 6, 4]] * 3  # the whole image: it gives no boxes


@pytest.mark.parametrize(
    "content, named",
    [
        ("[]", "not the description"),
        ("{", "got no JSON"),
        (json.dumps({"format": 1, "checkpoint": {}, "outputs": [], "sha256": "0"}), "changed it"),
    ],
)
def test_a_description_that_is_none_is_named(tmp_path, content, named):
    (tmp_path / "model.onnx").write_bytes(b"x")
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(UserError, match=named):
        exported.read(str(tmp_path / "model.onnx"))


def test_openvinos_weights_count_for_the_checksum(tmp_path):
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_bytes(b"x")
    before = exported.sha256(tmp_path / "model.xml")
    (tmp_path / "model.bin").write_bytes(b"y")
    assert exported.sha256(tmp_path / "model.xml") != before
