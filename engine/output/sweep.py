"""The table of a sweep's jobs, best first, and that of the jobs that failed."""

import csv
import json
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from engine.console import info
from engine.output.table import format_csv, format_rows
from engine.whole_file import write_whole

COLUMNS = ("job", "overrides", "reason")  # of failed.csv


def is_job() -> bool:
    """Return whether this run is a job of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def report(failure: str | None) -> None:
    """Write leaderboard.csv and failed.csv, and print how many jobs each has; only in a sweep.

    Args:
        failure: why the job of this process failed; None where it did not.
    """
    if not is_job():
        return
    hydra = HydraConfig.get()
    folder, job = Path(hydra.sweep.dir), Path(hydra.runtime.output_dir).name
    failed = _failed(folder)
    failed.pop(job, None)
    if failure is not None:
        failed[job] = {"job": job, "overrides": " ".join(hydra.overrides.task), "reason": failure}
    if failed or (folder / "failed.csv").exists():
        rows = ([row[column] for column in COLUMNS] for row in failed.values())
        write_whole(folder / "failed.csv", format_csv(COLUMNS, rows))
    rows = leaderboard(folder)
    note = f", {len(failed)} failed: {folder / 'failed.csv'}" if failed else ""
    done = f"{len(rows)} job{'s' * (len(rows) != 1)} done"
    info(f"{done}: {folder / 'leaderboard.csv'}{note}")


def _failed(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / "failed.csv"
    if not path.exists() or _is_older(path, folder):
        return {}
    with open(path, encoding="utf-8", newline="") as lines:
        return {row["job"]: row for row in csv.DictReader(lines)}


def _is_older(path: Path, folder: Path) -> bool:
    """Whether a file is older than this sweep, at whose start Hydra writes multirun.yaml."""
    begun = folder / "multirun.yaml"
    return begun.exists() and path.stat().st_mtime_ns < begun.stat().st_mtime_ns


def leaderboard(folder: Path) -> list[dict[str, Any]]:
    """Write leaderboard.csv, a row each finished job of a sweep, best first; return its rows."""
    rows = []
    for path in folder.glob("*/metrics.json"):
        if _is_older(path, folder):
            continue
        metrics = json.loads(path.read_text())
        overrides = OmegaConf.load(path.parent / ".hydra" / "overrides.yaml")
        row = {"job": path.parent.name, metrics["primary_name"]: metrics["primary_value"]}
        row |= dict(str(o).split("=", 1) for o in overrides)
        rows.append(row | {"seconds": metrics["seconds"]})
    rows.sort(key=lambda row: list(row.values())[1], reverse=True)
    write_whole(folder / "leaderboard.csv", format_rows(rows) if rows else format_csv(["job"], []))
    return rows
