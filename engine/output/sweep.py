"""The jobs of a sweep, kept by whatever process runs them: in this one, in another, elsewhere.

Hydra calls `Jobs` (`configs/common.yaml`) under every launcher. Each job has a file in `.jobs/` of
the sweep's folder, which only its own process writes.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from engine.console import info
from engine.errors import JobFailed
from engine.output import leaderboard
from engine.output.leaderboard import Job
from engine.whole_file import write_whole

RECORDS = ".jobs"
LOST = "it ended before it was done"


def is_job() -> bool:
    """Return whether this run is a job of a sweep, or a trial of a search."""
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN or not OmegaConf.is_missing(hydra.job, "num")


class Jobs(Callback):
    """Keeps an account of every job, and leaderboard.csv of them all."""

    folder: Path | None = None  # of the sweep that this process started

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Forget the jobs of an older sweep in the same folder."""
        Jobs.folder = Path(config.hydra.sweep.dir)
        for path in (Jobs.folder / RECORDS).glob("*.json"):
            path.unlink()

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Note that a job runs."""
        if config.hydra.mode == RunMode.MULTIRUN:
            _record(config, {"state": "running"})

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Note how a job ended, and print how many have."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        failed = job_return.status == JobStatus.FAILED
        _record(config, _failure(job_return._return_value) if failed else {"state": "done"})
        folder = Path(config.hydra.sweep.dir)
        number = leaderboard.counts(job.state for job in write(folder))
        info(f"sweep: {number}: {folder / leaderboard.NAME}")


def _record(config: DictConfig, state: dict[str, Any]) -> None:
    hydra = config.hydra
    job = {"folder": hydra.runtime.output_dir, "overrides": [*hydra.overrides.task]} | state
    path = Path(hydra.sweep.dir) / RECORDS / f"{hydra.job.num}.json"
    write_whole(path, json.dumps(job) + "\n")


def _failure(error: Exception) -> dict[str, Any]:
    code = error.code if isinstance(error, JobFailed) else 1
    return {"state": "failed", "code": code, "reason": str(error)}


def write(folder: Path, over: bool = False) -> list[Job]:
    """Write leaderboard.csv from the records of a sweep's jobs; return these, by number.

    Args:
        folder: of the sweep.
        over: whether no job can be running any more.
    """
    jobs = [*_jobs(folder, over)]
    leaderboard.write(folder, jobs)
    return jobs


def _jobs(folder: Path, over: bool) -> Iterator[Job]:
    for path in sorted((folder / RECORDS).glob("*.json"), key=lambda path: int(path.stem)):
        record = json.loads(path.read_text())
        if over and record["state"] == "running":
            record |= {"state": "stopped", "reason": LOST}
        yield _job(folder, record)


def _job(folder: Path, record: dict[str, Any]) -> Job:
    run = Path(record["folder"])
    found = leaderboard.results(run) if record["state"] == "done" else {}
    return Job(
        name=str(os.path.relpath(run, folder)),
        state=record["state"],
        overrides=record["overrides"],
        values={found["primary_name"]: found["primary_value"]} if found else {},
        epochs=len(leaderboard.epochs(run)) if found else None,
        seconds=found.get("seconds"),
        code=0 if record["state"] == "done" else record.get("code"),
        reason=record.get("reason", ""),
    )


def end() -> int:
    """Print the table of this process's sweep; return the exit code of its first failed job."""
    if Jobs.folder is None:
        return 0
    jobs = write(Jobs.folder, over=True) if (Jobs.folder / RECORDS).is_dir() else []
    leaderboard.show_end(Jobs.folder)
    return next((job.code or 1 for job in jobs if job.state == "failed"), 0)
