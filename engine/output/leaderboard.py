"""leaderboard.csv: every job of a sweep in every state, the best first.

Its columns: job, state, what the job reached, epochs, seconds, exit code, the reason of a failure,
and a column each key of the command line.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from engine.config.arguments import start
from engine.console import format_table, show
from engine.output.table import format_csv, format_rows
from engine.whole_file import write_whole

NAME = "leaderboard.csv"
STATES = ("done", "pruned", "stopped", "running", "waiting", "failed")  # in the order of the rows
FIRST = ("job", "state")  # columns before the values
LAST = ("epochs", "seconds", "code", "reason")  # columns behind the values
LESS_IS_BETTER = ("seconds", "size")
SHOWN = 10  # rows that the console gets


class Job(NamedTuple):
    """A job of a sweep.

    Args:
        name: its folder, in that of the sweep.
        state: one of STATES.
        overrides: key=value, of this job.
        values: what it reached, by name; the jobs are ranked by the first.
        epochs: that it trained.
        seconds: that it took.
        code: its exit code.
        reason: why it failed.
    """

    name: str
    state: str
    overrides: Sequence[str] = ()
    values: dict[str, float | None] = {}  # noqa: RUF012  # never changed
    epochs: int | None = None
    seconds: float | None = None
    code: int | None = None
    reason: str = ""

    @property
    def place(self) -> tuple[int, float]:
        """What the jobs are sorted by."""
        name, value = next(iter(self.values.items()), ("", None))
        if value is None:
            return STATES.index(self.state), float("inf")
        return STATES.index(self.state), value if name in LESS_IS_BETTER else -value


def write(folder: Path, jobs: Iterable[Job]) -> None:
    """Write the jobs of a sweep into its folder."""
    rows = [_row(job) for job in sorted(jobs, key=lambda job: job.place)]
    text = format_rows(rows) if rows else format_csv([*FIRST, *LAST], [])
    write_whole(folder / NAME, text)


def _row(job: Job) -> dict[str, Any]:
    keys = dict(text.split("=", 1) for text in job.overrides if "=" in text)
    last = {"epochs": job.epochs, "seconds": job.seconds, "code": job.code, "reason": job.reason}
    row = last | {"job": job.name, "state": job.state} | job.values | keys
    columns = dict.fromkeys([*FIRST, *job.values, *LAST, *keys])
    row = {column: row[column] for column in columns}
    return {key: "" if value is None else value for key, value in row.items()}


def read(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a sweep's leaderboard; none where it has no such file."""
    if not (folder / NAME).is_file():
        return []
    with open(folder / NAME, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def results(folder: Path) -> dict[str, Any]:
    """Return what metrics.json in a run's folder holds; nothing where there is none."""
    path = folder / "metrics.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def epochs(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a run's metrics.csv, one an epoch."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def counts(states: Iterable[str]) -> str:
    """How many jobs there are in each state: "3 done, 1 failed"."""
    found = Counter(states)
    number = {state: found[state] for state in STATES}
    number = {k: v for k, v in number.items() if v or k == "done"}
    return ", ".join(f"{count} {state}" for state, count in number.items())


def show_end(folder: Path) -> None:
    """Print the jobs that are done as a table, the best first, and why others failed."""
    rows = read(folder)
    if not rows:
        return
    number = counts(row["state"] for row in rows)
    show(f"sweep {folder}: {number}", strong=("sweep",))
    same = _same(rows)
    if same:
        show(f"all of them: {' '.join(f'{key}={rows[0][key]}' for key in same)}")
    hidden = ("state", "code", "reason", *same)
    done = [row for row in rows if row["state"] == "done"]
    cells = [{k: _cell(v) for k, v in row.items() if k not in hidden} for row in done[:SHOWN]]
    if cells:
        header, best, *others = format_table(cells)
        show(header, best, *others, strong=[best])
    if done:
        show(f"best: {folder / done[0]['job']}, by {command(done[0], keys(rows))}")
    if len(done) > SHOWN:
        show(f"and {len(done) - SHOWN} more: {folder / NAME}")
    for row in rows:
        if row["state"] == "failed":
            own = [key for key in keys(rows) if key not in same and row[key]]
            overrides = " ".join(f"{key}={row[key]}" for key in own)
            show(f"failed: job {row['job']} ({overrides}): {row['reason']}", strong=("failed:",))


def keys(rows: Sequence[dict[str, str]]) -> list[str]:
    """The keys of the command line that the jobs have."""
    columns = list(rows[0])
    return columns[columns.index("reason") + 1 :]


def command(row: dict[str, str], of: Iterable[str]) -> str:
    """The command line of a job, from those columns of the table that are keys."""
    return " ".join([start("train"), *(quote(f"{key}={row[key]}") for key in of if row[key])])


def _same(rows: Sequence[dict[str, str]]) -> list[str]:
    """The overrides that all jobs have: the table is narrower without them."""
    return [key for key in keys(rows) if len({row[key] for row in rows}) == 1]


def _cell(text: str) -> float | str:
    """A number of the table, which is shown short; another text, or a whole number, as it is."""
    return float(text) if re.fullmatch(r"-?\d*\.\d+(e-?\d+)?", text) else text or "-"
