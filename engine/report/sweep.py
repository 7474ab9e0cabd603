"""A sweep's jobs: the leaderboard, its history, all keys beside the metric, what each is worth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.console import short, show
from engine.errors import UserError
from engine.output import leaderboard
from engine.report import page, stored
from engine.report.diagnosis import Chart, Table
from engine.whole_file import write_whole

Rows = list[dict[str, str]]
FEW = 6  # values of a key that are compared one by one, or more if jobs share them


def write(folder: str) -> None:
    """Write report.html into the folder of a sweep.

    Raises:
        UserError: it has no leaderboard.csv, or no job in it that is done.
    """
    rows = _read(Path(folder))
    done = [row for row in rows if row["state"] == "done"]
    failed = [row for row in rows if row["state"] == "failed"]
    if not done:
        raise UserError(f"{folder}: no job is done; {leaderboard.NAME} has the reasons")
    primary, keys = list(rows[0])[2], leaderboard.keys(rows)
    best = done[0]
    command = leaderboard.command(best, keys)
    number = leaderboard.counts(row["state"] for row in rows)
    title = f"Sweep {Path(folder).resolve().name}"
    varied = [key for key in keys if len({row[key] for row in rows}) > 1]
    sections = [
        page.head(title, primary, _number(best[primary]), f"best of {number}", "",
                  {"best job": best["job"], "its command": command}),
        page.section("Jobs", [page.table_panel(_leaderboard(rows)), *_history(rows, primary)]),
        page.section("Keys", [*_coordinates(done, varied, primary), *_importance(Path(folder)),
                              *_worth(done, varied, primary), *_slices(rows, varied, primary)]),
        page.section("Failed", [page.table_panel(failed_table(failed))]) if failed else "",
    ]  # fmt: skip
    path = Path(folder) / "report.html"
    write_whole(path, page.page(title, sections))
    show(f"report: {path}")


def _read(folder: Path) -> Rows:
    path = folder / leaderboard.NAME
    if not path.is_file():
        raise UserError(f"sweep={folder}: no {path.name} there; expected hydra.sweep.dir")
    rows = stored.rows(path)
    if rows and not {"job", "state", "reason"} <= rows[0].keys():
        raise UserError(f"{path}: no column state or reason; expected it as a sweep writes it")
    return rows


def failed_table(rows: Rows) -> Table:
    """Return the jobs that failed, with the reason of each."""
    return Table("Jobs that failed", "", list(rows[0]), [list(row.values()) for row in rows])


def _history(rows: Rows, primary: str) -> list[str]:
    """What each job reached, in the order of the jobs, and the best until then."""
    jobs = {row["job"]: _number(row[primary]) for row in rows if row["state"] == "done"}
    ended = {int(job): value for job, value in jobs.items() if job.isdigit() and value is not None}
    x = sorted(ended)
    if len(x) < 2:
        return []
    y = [ended[job] for job in x]
    pruned = {int(row["job"]): _number(row[primary]) for row in rows if row["state"] == "pruned"}
    at = sorted(job for job, value in pruned.items() if value is not None)
    lines = {"done": (x, y), "pruned": (at, [pruned[job] for job in at])}
    points = {name: line for name, line in lines.items() if len(line[0])}
    note = "Of jobs that were pruned, what they had reached by then."
    values = Chart("What each job reached", note, "job", primary, points, kind="points")
    best = Chart("The best until then", "", "job", primary,
                 {"best": (x, np.fmax.accumulate(np.array(y)))})  # fmt: skip
    return [page.chart_panel(values), page.chart_panel(best)]


def _importance(folder: Path) -> list[str]:
    """What Optuna takes each key to be responsible for, where a search wrote it."""
    path = folder / "importance.csv"
    if not path.is_file():
        return []
    rows = stored.rows(path)
    x, y = range(len(rows)), [float(row["importance"]) for row in rows]
    note = "Each key's share in how much good jobs differ from others (PED-ANOVA, by Optuna)."
    chart = Chart("Importance", note, "", "share", {"share": (x, y)}, kind="bar",
                  ticks=[row["key"] for row in rows])  # fmt: skip
    return [page.chart_panel(chart)]


def _slices(rows: Rows, keys: Sequence[str], primary: str) -> list[str]:
    """The metric over each key that has numbers."""
    charts = []
    for key in keys:
        pairs = [(_number(row[key]), _number(row[primary])) for row in rows]
        found = sorted((x, y) for x, y in pairs if x is not None and y is not None)
        if len({x for x, _ in found}) > 2:
            x, y = map(list, zip(*found, strict=True))
            is_log = min(x) > 0 and max(x) / min(x) > 10
            title = f"{primary} by {key}"
            line = {key: (x, y)}
            charts.append(Chart(title, "", key, primary, line, kind="points", log=is_log))
    return [page.chart_panel(chart) for chart in charts]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _leaderboard(rows: Rows) -> Table:
    note = "Best first; then those that were pruned, or failed."
    return Table("Leaderboard", note, list(rows[0]), [list(row.values()) for row in rows])


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
        if 1 < len(averages) <= max(FEW, len(rows) // 2):
            best = max(averages, key=lambda value: averages[value])
            worth = averages[best] - min(averages.values())
            table.append((key, worth, best, averages[best], len(averages)))
    table.sort(key=lambda row: -row[1])
    columns = ("key", "worth", "best value", f"mean {primary} there", "values")
    note = "Worth: between the mean of the best value and that of the worst, over the other keys."
    return (
        [page.table_panel(Table("What each key is worth", note, columns, table))] if table else []
    )
