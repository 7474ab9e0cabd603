"""A sweep's jobs: the leaderboard, all keys beside the metric, and what each key is worth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.config.arguments import start
from engine.console import info, short
from engine.errors import UserError
from engine.report import page, stored
from engine.report.diagnosis import Chart, Table
from engine.whole_file import write_whole

Rows = list[dict[str, str]]


def write(folder: str) -> None:
    """Write report.html into the folder of a sweep.

    Raises:
        UserError: it has no leaderboard.csv, or no job in it.
    """
    rows = _read(Path(folder))
    primary = list(rows[0])[1]
    keys = [key for key in rows[0] if key not in ("job", primary, "seconds")]
    failed = _failed(Path(folder))
    best = rows[0]
    command = " ".join([start("train"), *(f"{key}={best[key]}" for key in keys if best[key])])
    title = f"Sweep {Path(folder).resolve().name}"
    sections = [
        page.head(title, primary, _number(best[primary]),
                  f"best of {len(rows)} jobs, {len(failed)} failed",
                  f"the best job: {command}", {}),
        page.section("Jobs", [page.table_panel(_leaderboard(rows))]),
        page.section("Keys", [*_coordinates(rows, keys, primary), *_worth(rows, keys, primary)]),
        page.section("Failed", [page.table_panel(failed_table(failed))]) if failed else "",
    ]  # fmt: skip
    path = Path(folder) / "report.html"
    write_whole(path, page.page(title, sections))
    info(f"report: {path}")


def _read(folder: Path) -> Rows:
    path = folder / "leaderboard.csv"
    if not path.is_file():
        raise UserError(f"sweep={folder}: no leaderboard.csv there; expected hydra.sweep.dir")
    rows = stored.rows(path)
    if not rows:
        raise UserError(f"{path}: no job ended; failed.csv beside it has the reasons")
    return rows


def _failed(folder: Path) -> Rows:
    path = folder / "failed.csv"
    return stored.rows(path) if path.is_file() else []


def failed_table(rows: Rows) -> Table:
    """Return the jobs that failed, with the reason of each."""
    return Table("Jobs that failed", "", list(rows[0]), [list(row.values()) for row in rows])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _leaderboard(rows: Rows) -> Table:
    return Table("Leaderboard", "Best first.", list(rows[0]), [list(r.values()) for r in rows])


def _positions(values: Sequence[str]) -> np.ndarray:
    """0..1 along an axis: numbers by size, texts evenly in their order."""
    numbers = [_number(value) for value in values]
    if None in numbers:
        names = sorted(set(values))
        numbers = [names.index(value) for value in values]
    of = np.array(numbers, float)
    return (of - of.min()) / (np.ptp(of) or 1)


def _coordinates(rows: Rows, keys: Sequence[str], primary: str) -> list[str]:
    """Parallel coordinates: an axis a key, a line a job, the best ten in the chart."""
    axes = [key for key in [*keys, primary] if len({row[key] for row in rows}) > 1]
    if len(axes) < 2:
        return []
    columns = [_positions([row[axis] for row in rows]) for axis in axes]
    x = range(len(axes))
    lines = {f"job {row['job']}": (x, [column[i] for column in columns])
             for i, row in enumerate(rows[:10])}  # fmt: skip
    note = "From left to right: " + ", ".join(
        f"{axis} ({_low_to_high([row[axis] for row in rows])})" for axis in axes
    )
    text = f"The best ten jobs. {note}."
    chart = Chart("Parallel coordinates", text, "", "low to high", lines, ticks=axes)
    return [page.chart_panel(chart)]


def _low_to_high(values: Sequence[str]) -> str:
    order = np.argsort(_positions(values), kind="stable")
    return f"{_short(values[int(order[0])])} to {_short(values[int(order[-1])])}"


def _short(text: str) -> str:
    value = _number(text)
    return text if value is None else short(value)


def _worth(rows: Rows, keys: Sequence[str], primary: str) -> list[str]:
    """The mean metric of each value of a key, and between its best and worst value."""
    table = []
    for key in keys:
        means: dict[str, list[float]] = {}
        for row in rows:
            if (value := _number(row[primary])) is not None:
                means.setdefault(row[key], []).append(value)
        averages = {value: float(np.mean(found)) for value, found in means.items()}
        if len(averages) > 1:
            best = max(averages, key=lambda value: averages[value])
            worth = averages[best] - min(averages.values())
            table.append((key, worth, best, averages[best], len(averages)))
    table.sort(key=lambda row: -row[1])
    columns = ("key", "worth", "best value", f"mean {primary} there", "values")
    note = "Worth: between the mean of the best value and that of the worst, over the other keys."
    return (
        [page.table_panel(Table("What each key is worth", note, columns, table))] if table else []
    )
