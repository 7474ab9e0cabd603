"""How a command ends, in a process of its own."""

import os
import subprocess
import sys

import pytest
from command_line import ROOT

SCRIPT = """
import atexit, sys
from engine.cli import command
from engine.errors import Stopped, UserError

class Last:
    def __del__(self):
        print("python's last steps")

last = Last()
atexit.register(print, "atexit")

@command("train")
def main(cfg):
    print("done", end=" ")
    {body}

main()
"""


ENDS = [("pass", 0), ("raise RuntimeError", 1), ("raise UserError('no')", 2),
        ("raise Stopped(15, 'stopped')", 143)]  # fmt: skip


@pytest.mark.parametrize(
    ("launched", "body", "code"),
    [
        pytest.param(launched, *end, marks=() if launched or i < 2 else pytest.mark.slow)
        for launched in (False, True)
        for i, end in enumerate(ENDS)
    ],
)
def test_a_process_of_torchrun_ends_before_pythons_last_steps(body, code, launched, tmp_path):
    torchrun = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0"} if launched else {}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body), f"hydra.run.dir={tmp_path}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | torchrun,
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    assert ended.stdout.split("\n")[0] == "done atexit"
    assert ("python's last steps" in ended.stdout) == (not launched)
