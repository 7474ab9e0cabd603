"""`topic=map_location`: a file that says cuda:0, on a machine without a GPU and on one with it."""

import io

import pytest
import torch
from command_line import run

from engine.explain import map_location
from engine.weights.unpickle import load_plain

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")


def results() -> list[tuple[str, ...]]:
    """The columns behind the two devices."""
    return [tuple(row.values())[2:] for row in map_location.explain().rows]


@without_gpu
def test_without_a_gpu_its_file_is_refused_unless_mapped():
    explanation = map_location.explain()
    needs = ("needs a GPU", "needs a GPU")
    assert results() == [("cpu", "cpu"), needs, ("RuntimeError", "cpu"), needs]
    assert "Attempting to deserialize object on a CUDA device" in explanation.lines[0]
    assert explanation.lines[-1].startswith("this machine has no GPU")


@pytest.mark.gpu
def test_with_a_gpu_a_tensor_returns_to_where_it_was():
    assert results() == [("cpu", "cpu"), ("cpu", "cuda:0"), ("cuda:0", "cpu"), ("cuda:0", "cuda:0")]


@without_gpu
def test_the_project_reads_such_a_file_whole():
    content = map_location.saved("cuda:0", gpu=False)
    assert b"cuda:0" in content and b"cuda:0" not in map_location.saved("cpu", gpu=False)
    state = load_plain(io.BytesIO(content), torch.device("cpu"))
    assert state["weight"].tolist() == [1, 2, 3] and state["weight"].device.type == "cpu"


def test_files_written_after_it_say_where_their_tensors_are():
    tag = torch.serialization.location_tag
    map_location.saved("cuda:0", gpu=False)
    assert torch.serialization.location_tag is tag


def test_the_command_prints_it(tmp_path):
    text = run("-m", "engine.explain", "topic=map_location", "hydra.run.dir=out", cwd=tmp_path)
    assert "map_location=wanted" in text and (tmp_path / "out/map_location.png").exists()
