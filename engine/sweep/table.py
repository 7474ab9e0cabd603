"""What the console shows of a search while it runs: a row a trial that ends."""

import time
from collections.abc import Sequence

from engine.console import duration, short, show
from engine.output.leaderboard import Job

COLUMNS = {"trial": 5, "state": 7, "value": 8, "epochs": 6, "seconds": 7, "best": 14,
           "running": 7, "pruned": 6, "failed": 6, "left": 12}  # fmt: skip

QUIET = 60.0  # seconds without a row, after which the trials that run are shown


class Table:
    """Prints the rows.

    Args:
        trials: of the search, in all.
    """

    def __init__(self, trials: int) -> None:
        self.trials, self.start, self.ended = trials, time.monotonic(), 0
        self.printed = self.start

    def row(self, jobs: Sequence[Job], number: int, settings: Sequence[str]) -> None:
        """Print how a trial ended, and how far the search is."""
        if not self.ended:
            show(_line({name: name for name in COLUMNS}) + "  settings")
        self.ended += 1
        self.printed = time.monotonic()
        job = jobs[number]
        done = [job for job in jobs if job.state == "done"]
        best = min(done, key=lambda job: job.place) if done else None
        count = {state: sum(job.state == state for job in jobs) for state in COLUMNS}
        cells = {
            "trial": job.name,
            "state": job.state,
            "value": _first(job),
            "epochs": str(job.epochs),
            "seconds": short(job.seconds or 0.0),
            "best": f"{_first(best)} ({best.name})" if best else "-",
            **{state: str(count[state]) for state in ("running", "pruned", "failed")},
            "left": self._left(jobs),
        }
        show(f"{_line(cells)}  {' '.join(settings)}{job.reason and f': {job.reason}'}")

    def is_quiet(self) -> bool:
        """Whether nothing was printed for a minute."""
        return time.monotonic() - self.printed > QUIET

    def show_running(self, jobs: Sequence[Job]) -> None:
        """Print what the trials that run have reached."""
        self.printed = time.monotonic()
        where = [f"{job.name}: {_first(job)}" for job in jobs if job.state == "running"]
        show(f"trials that run, and the best value of each: {', '.join(where)}")

    def _left(self, jobs: Sequence[Job]) -> str:
        """The trials that are left, and the time they take at the pace of those that ended."""
        left = self.trials - sum(job.state not in ("running", "stopped", "waiting") for job in jobs)
        seconds = (time.monotonic() - self.start) / self.ended * left
        return f"{left}, {duration(seconds)}"


def _first(job: Job) -> str:
    value = next(iter(job.values.values()), None)
    return "-" if value is None else f"{value:.4g}"


def _line(cells: dict[str, str]) -> str:
    return "  ".join(f"{cells[name]:>{width}}" for name, width in COLUMNS.items())
