"""Runs the project's commands in processes of their own, on one thread."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

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
