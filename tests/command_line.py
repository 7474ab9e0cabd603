"""Runs the project's commands in processes of their own, on one thread."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
TINY = ["backbone=resnet18", "image_size=96", "trainer.epochs=1", "trainer.precision=fp32",
        "loader.batch_size=4", "loader.workers=0", "device=cpu"]  # fmt: skip
SHAPES = ["dataset.size=64", "dataset.train=8", "dataset.val=6", "dataset.test=4"]


def start(*arguments: str, cwd: Path) -> subprocess.Popen:
    command, *rest = arguments
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / command), *rest],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
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
    names = ("whole", "killed")
    ends = [torch.load(folder / n / "checkpoints/last.pt", weights_only=True) for n in names]
    for part in ("model", "ema"):
        for key, value in ends[0][part].items():
            assert torch.equal(value, ends[1][part][key]), key
    rows = [table(folder / n / "metrics.csv") for n in names]
    for row in (*rows[0], *rows[1]):
        row.pop("seconds")
    assert rows[0] == rows[1] and len(rows[0]) == epochs
