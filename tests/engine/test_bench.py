import json
import subprocess
import sys

import pytest

from engine.bench import text
from engine.config import CONFIGS

SMALL = ("batch=2", "slots=60", "objects=[0,3]", "repeats=1")


def bench(*arguments):
    command = [sys.executable, "-m", "engine.bench", *arguments]
    return subprocess.run(command, cwd=CONFIGS.parent, capture_output=True, text=True)


def test_loss_prints_a_table_and_json_last():
    done = bench("part=loss", *SMALL)
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    found = json.loads(last)
    assert (found["part"], found["batch"], found["slots"]) == ("loss", 2, 60)
    rows = found["rows"]
    assert [(r["objects"], r["loss"]) for r in rows] == [
        (count, loss) for count in (0, 3) for loss in ("torchvision", "multibox", "focal")
    ]
    for row, peer in zip(rows, rows[:1] * 3 + rows[3:4] * 3, strict=True):
        assert 0 < row["fastest"] <= row["ms"] <= row["slowest"]
        assert row["of_torchvision"] == pytest.approx(row["ms"] / peer["ms"])
        # At least the gradient by the logits, 2 * 60 * 21 floats
        assert row["peak_mb"] > 2 * 60 * 21 * 4 / 1e6
    assert table[0].split() == list(rows[0])
    assert len(table) == 1 + len(rows)


@pytest.mark.slow
def test_data_puts_augmentation_beside_decoding_and_torchvision(shared_data):
    done = bench("part=data", f"root=[{shared_data}/bccd]", "pictures=4", "repeats=1", "side=64")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [row["way"] for row in rows if row["pictures"] == "bccd"][:3] == [
        "decoding", "augment=ssd", "torchvision",
    ]  # fmt: skip
    assert all(row["slowest"] <= row["a_second"] <= row["fastest"] for row in rows)
    assert [row["of_decoding"] for row in rows if row["way"] == "decoding"] == [1, 1]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("part=los", "expected data or index or loss; did you mean 'loss'?"),
        ("batch=0", "batch=0: expected at least 1"),
        ("objects=[]", "objects=[]: expected"),
        ("objects=[-1]", "objects=[-1]: expected"),
        ("slot=3", "slots"),
        ("root=[a]", "root: part=loss has no such key; it has batch, slots, objects"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(wrong, says):
    done = bench(wrong)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_table_lines_up():
    rows = [{"objects": 1, "ms": 0.1234, "of": 1.0}, {"objects": 500, "ms": 1234.5, "of": 0.25}]
    assert text(rows).splitlines() == [
        "objects     ms    of",
        "      1  0.123     1",
        "    500   1234  0.25",
    ]
