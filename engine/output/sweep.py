"""The table of a sweep's jobs, best first, and that of the jobs that failed."""

import csv
import json
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from engine.console import format_table, info, show
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
    rows = _finished(folder)
    write_whole(folder / "leaderboard.csv", format_rows(rows) if rows else format_csv(["job"], []))
    return rows


def _finished(folder: Path) -> list[dict[str, Any]]:
    """The rows of the leaderboard."""
    rows = []
    for path in folder.glob("*/metrics.json"):
        if _is_older(path, folder):
            continue
        metrics = json.loads(path.read_text())
        overrides = OmegaConf.load(path.parent / ".hydra" / "overrides.yaml")
        row = {"job": path.parent.name, metrics["primary_name"]: metrics["primary_value"]}
        row |= dict(str(o).split("=", 1) for o in overrides)
        rows.append(row | {"seconds": metrics["seconds"]})
    return sorted(rows, key=_value, reverse=True)


def _value(row: dict[str, Any]) -> float:
    value = list(row.values())[1]  # null where it is not finite
    return float("-inf") if value is None else value


def show_end(folder: Path) -> None:
    """Print the jobs of a sweep as a table, best first, and why others failed."""
    rows, failed = _finished(folder), _failed(folder)
    if not rows and not failed:
        return
    show(f"sweep {folder}: {len(rows)} done, best first; {len(failed)} failed", strong=("sweep",))
    if rows:
        same, table = _split(_filled(rows))
        if same:
            show(f"all of them: {' '.join(same)}")
        header, best, *others = format_table(table)
        show(header, best, *others, strong=[best])
    for job in failed.values():
        show(f"failed: job {job['job']} ({job['overrides']}): {job['reason']}", strong=("failed:",))


def _filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that all have the same keys; what a job has no value of is "-"."""
    keys = [*dict.fromkeys(key for row in rows for key in row if key != "seconds"), "seconds"]
    return [{k: "-" if row.get(k) is None else row[k] for k in keys} for row in rows]


def _split(rows: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The overrides that all of several jobs have, and the rows without them: a narrower table."""
    keys = list(rows[0])[2:-1]  # between the job, its value and its seconds
    same = [key for key in keys if len(rows) > 1 and len({str(row[key]) for row in rows}) == 1]
    overrides = [f"{key}={rows[0][key]}" for key in same]
    return overrides, [{k: v for k, v in row.items() if k not in same} for row in rows]
