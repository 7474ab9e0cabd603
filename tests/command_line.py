"""Runs the project's commands in processes of their own, on one thread."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
TINY = ["backbone=resnet18", "image_size=96", "trainer.epochs=1", "trainer.precision=fp32",
        "loader.batch_size=4", "loader.workers=0", "device=cpu"]  # fmt: skip
SHAPES = ["dataset.size=64", "dataset.train=8", "dataset.val=6", "dataset.test=4"]


def start(*arguments: str, cwd: Path, **options: Any) -> subprocess.Popen:
    command, *rest = arguments
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / command), *rest],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def run(*arguments: str, cwd: Path) -> str:
    process = start(*arguments, cwd=cwd)
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
    run("train.py", f"resume={last}", cwd=folder)
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
