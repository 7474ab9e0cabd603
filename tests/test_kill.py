"""A few runs of `kill.py`, which does a hundred."""

import pytest
from command_line import run


@pytest.mark.slow  # `test_cli.py` has a run that is killed at one place
def test_a_run_hit_at_random_ends_with_the_same_bits(tmp_path):
    out = run("tests/kill.py", "--runs", "2", "--hits", "2", "dataset.train=32", "dataset.val=2",
              "dataset.size=64", cwd=tmp_path)  # fmt: skip
    assert "2 of 2 runs end with the same bits" in out
