"""metrics.json: the numbers of a run or an evaluation. No import of torch here."""

import json
import os
import platform
import subprocess
import sys
from math import isfinite
from pathlib import Path

from engine.config.schema import CONFIGS, INSTALLED
from engine.distributed.processes import rank_zero_only
from engine.whole_file import write_whole


@rank_zero_only
def write_metrics(
    folder: Path,
    *,
    primary: str,
    metrics: dict[str, float],
    protocol: str,
    dataset: str,
    seconds: float,
    images: int,
    split: str | None = None,
    evaluated: int | None = None,
    epoch: int | None = None,
) -> None:
    """Write metrics.json: the numbers, the protocol they follow, and what they were measured on.

    `images` are those of all the seconds, `evaluated` those that the numbers are of.
    """
    measured = {"split": split, "images": evaluated, "epoch": epoch}
    content = {
        "primary_name": primary,
        "primary_value": metrics[primary] if isfinite(metrics[primary]) else None,
        "metrics": {k: v if isfinite(v) else None for k, v in metrics.items()},
        "protocol": protocol,
        "dataset": dataset,
        **{key: value for key, value in measured.items() if value is not None},
        "seconds": round(seconds, 2),
        "images_per_second": round(images / max(seconds, 1e-9), 2),
        "commit": commit(),
        "machine": machine(),
    }
    write_whole(folder / "metrics.json", json.dumps(content, indent=1) + "\n")


def machine() -> str:
    """Return the kind of this machine: processors, their number and the GPU."""
    torch = sys.modules.get("torch")  # where it is not loaded, no GPU was used
    gpu = f", {torch.cuda.get_device_name()}" if torch and torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{gpu}"


def commit() -> str | None:
    """Return the project's commit, with a + if files differ from it; None outside git."""
    if INSTALLED:
        return None  # git would answer for a project that has its environment inside it
    result = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
        cwd=CONFIGS,
        capture_output=True,
        text=True,
    )
    return result.stdout.strip() or None
