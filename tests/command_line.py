"""Runs the project's commands in processes of their own, on one thread, forked from one of all."""

import csv
import functools
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
TINY = ["backbone=mobilenet_v1_025", "image_size=96", "trainer.epochs=1", "trainer.precision=fp32",
        "loader.batch_size=4", "loader.workers=0", "device=cpu",
        "report=false"]  # fmt: skip
SHAPES = ["dataset.size=64", "dataset.train=8", "dataset.val=6", "dataset.test=4"]


class Forked:
    """A command that `warm.py` forked, with what the tests use of `subprocess.Popen`."""

    def __init__(self, server: socket.socket, request: dict[str, Any]) -> None:
        self.returncode: int | None = None
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        status, told = os.pipe()
        with tempfile.TemporaryFile() as asked:
            asked.write(json.dumps(request).encode())
            asked.flush()
            files = [asked.fileno(), self._out.fileno(), self._err.fileno(), told]
            socket.send_fds(server, [b"x"], files)
        os.close(told)
        self._status = os.fdopen(status)
        self.pid = int(self._status.readline())

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the command runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code, as soon as there is one."""
        if self.returncode is None and not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return self.poll()

    def send_signal(self, number: int) -> None:
        """A signal to a command that still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Standard output and error of the whole command."""
        self.wait(timeout)
        return _whole(self._out), _whole(self._err)


def _whole(file: Any) -> str:
    file.seek(0)
    with io.TextIOWrapper(file, encoding="utf-8") as text:
        return text.read()


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen]:
    """The socket to this process's own `warm.py`, which ends when that is closed."""
    ours, its = socket.socketpair()
    with its:
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/warm.py"), str(its.fileno())],
            pass_fds=[its.fileno()],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return ours, server


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(
    *arguments: str,
    cwd: Path,
    fresh: bool = False,
    largest: int | None = None,
    refused: Sequence[str] = (),
    environment: Mapping[str, str] = types.MappingProxyType({}),
) -> "subprocess.Popen[str] | Forked":
    """`python ARGUMENTS` in the folder, the command a file of the project's or `-m` and a module.

    Args:
        fresh: whether it is a Python of its own instead of one forked with everything loaded.
        largest: bytes that a file it writes may have.
        refused: patterns of the names of files for which the disk is full.
        environment: variables beside those of the tests.
    """
    command, *unused_tensors = arguments
    variables = _environment() | environment
    line = [command if command == "-m" else str(ROOT / command), *unused_tensors]
    if not fresh and hasattr(os, "fork"):
        request = {"arguments": line, "cwd": str(cwd), "environment": variables}
        return Forked(_server()[0], request | {"largest": largest, "refused": list(refused)})
    assert largest is None and not refused, "only a forked command is limited"
    return subprocess.Popen(
        [sys.executable, *line],
        cwd=cwd,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """The command with its exit code and what it wrote, however it ended."""
    process = start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=300)
    assert process.returncode is not None
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def run(*arguments: str, cwd: Path, fresh: bool = False) -> str:
    process = start(*arguments, cwd=cwd, fresh=fresh)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def table(path: Path) -> list[dict]:
    return list(csv.DictReader(path.read_text().splitlines()))


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def assert_resumes_exactly(arguments: list[str], epochs: int, folder: Path) -> None:
    """SIGKILL after the first epoch's checkpoint; the resumed run equals one never stopped."""
    run(*arguments, f"hydra.run.dir={folder}/whole", cwd=folder)
    killed = start(*arguments, f"hydra.run.dir={folder}/killed", cwd=folder)
    last = folder / "killed/checkpoints/last.pt"
    while not last.exists() and killed.poll() is None:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert torch.load(last, weights_only=True)["epoch"] < epochs
    run("train.py", f"resume={last}", cwd=folder, fresh=True)  # its hashes are seeded otherwise
    assert_same_end(folder / "whole", folder / "killed")
    assert len(table(folder / "whole/metrics.csv")) == epochs


def assert_same_end(one: Path, other: Path) -> None:
    """Two run folders hold the same weights, averages, optimizer and metrics, to the bit."""
    ends = [torch.load(f / "checkpoints/last.pt", weights_only=True) for f in (one, other)]
    for part in ("model", "ema", "optimizer", "schedule", "step", "best", "random"):
        assert equal(ends[0][part], ends[1][part]), part
    rows = [table(folder / "metrics.csv") for folder in (one, other)]
    for row in (*rows[0], *rows[1]):
        row.pop("seconds")
    assert rows[0] == rows[1] and rows[0]


def equal(one: Any, other: Any) -> bool:
    """Whether two states are equal to the bit, seconds aside."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            equal(one[key], other[key]) for key in one if key != "seconds"
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other
