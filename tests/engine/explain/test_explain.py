"""`python -m engine.explain`: its table, its files, and what it refuses."""

import csv

import pytest
from command_line import ended, run


def test_a_topic_prints_its_table_and_writes_it_with_its_image(tmp_path):
    text = run("-m", "engine.explain", "topic=softmax", "hydra.run.dir=out", cwd=tmp_path)
    assert "0.659" in text and text.endswith("softmax.png\n")
    rows = list(csv.DictReader((tmp_path / "out/softmax.csv").read_text().splitlines()))
    assert [float(row["p"]) for row in rows] == pytest.approx([0.659, 0.2424, 0.0986], abs=1e-4)
    assert (tmp_path / "out/softmax.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [("topic=sofmax", "topic=sofmax: expected "),
     ("logits=[1]", "logits=[1.0]: expected a list of 2 to 20"),
     ("topics.softmax=no.such", "expected a module with a function `explain`")],
)  # fmt: skip
def test_a_mistake_is_one_line(wrong, message, tmp_path):
    done = ended("-m", "engine.explain", wrong, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
