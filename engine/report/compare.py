"""Several runs side by side, with intervals that pair the images of two."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.console import info
from engine.errors import UserError
from engine.output import read_predictions
from engine.protocols import MetricOptions
from engine.report import curves, folders, page
from engine.report.diagnosis import Chart, Difference, Table
from engine.report.folders import Folder
from engine.report.judged import Judged, judged
from engine.whole_file import write_whole

CHANGED = 50  # images that are listed


def write(paths: Sequence[str], folder: Path, trust: Any) -> None:
    """Write report.html that compares the first folder with each other.

    Raises:
        UserError: fewer than two, or of other images or by another metric than the first.
    """
    if len(paths) < 2:
        raise UserError(f"runs=[{','.join(paths)}]: expected at least two folders to compare")
    runs = [folders.read(path, trust) for path in paths]
    for run in runs[1:]:
        _check(runs[0], run)
    names = _names(runs)
    sections = [
        "<h1>" + page.escape(" and ".join(names)) + "</h1>",
        page.section("Numbers", [page.table_panel(_numbers(runs, names))], _same(runs)),
        page.section("Learning curves", [page.chart_panel(c) for c in _curves(runs, names)]),
    ]
    first = _judged(runs[0])
    for run, name in zip(runs[1:], names[1:], strict=True):
        sections += _pair(runs[0], first, _judged(run), names[0], name)
    path = folder / "report.html"
    write_whole(path, page.page(" and ".join(names), sections))
    info(f"report: {path}")


def _check(first: Folder, other: Folder) -> None:
    ids = [[f.data.record(i).id for i in range(len(f.data))] for f in (first, other)]
    if ids[0] != ids[1] or first.data.classes != other.data.classes:
        raise UserError(
            f"{first.path} and {other.path}: their images or classes differ "
            f"({first.results['dataset']}, {other.results['dataset']}); only runs judged on the "
            "same images can be compared"
        )
    one, two = first.results["protocol"], other.results["protocol"]
    if first.results["primary_name"] != other.results["primary_name"]:
        raise UserError(
            f"{first.path} and {other.path}: judged by different metrics ({one}; {two}); evaluate "
            "both by the same: eval.py checkpoint=... metric=..."
        )


def _names(runs: Sequence[Folder]) -> list[str]:
    """The last part of each path, or all of it where two have the same."""
    short = [run.path.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run.path) for run in runs]


def _same(runs: Sequence[Folder]) -> str:
    rules = list(dict.fromkeys(run.results["protocol"] for run in runs))
    differ = "The rules differ, so numbers are not of equal kind! " if len(rules) > 1 else ""
    return differ + " / ".join(rules)


def _numbers(runs: Sequence[Folder], names: Sequence[str]) -> Table:
    keys = list(dict.fromkeys(key for run in runs for key in run.results["metrics"]))
    rows: list[Sequence[Any]] = [
        (key, *(run.results["metrics"].get(key) for run in runs)) for key in keys
    ]
    rows.append(("seconds", *(run.results["seconds"] for run in runs)))
    return Table("metrics.json of each", "", ("metric", *names), rows)


def _curves(runs: Sequence[Folder], names: Sequence[str]) -> list[Chart]:
    """The metric and the sum of each loss term, of all runs in one chart."""
    columns = {name: curves.read(run.path) for name, run in zip(names, runs, strict=True)}
    primary = runs[0].results["primary_name"]
    keys = {f"val/{primary}": primary, "lr": "learning rate"}
    keys |= {key: key for each in columns.values() for key in each if "loss/" in key}
    charts = []
    for key, label in keys.items():
        lines = {name: each[key] for name, each in columns.items() if key in each}
        if lines:
            charts.append(Chart(label, "", "epoch", label, lines))
    return charts


def _judged(run: Folder) -> Judged:
    path = run.path / "predictions.json"
    return judged(run.data, read_predictions.read_table(path, run.data))


def _pair(run: Folder, one: Judged, two: Judged, first: str, second: str) -> list[str]:
    """The difference between two runs, and the images that it comes from."""
    panels = []
    differ = MetricOptions.differences.of(run.metric)
    if differ is not None:
        found = differ(one.predicted, two.predicted, one.true, len(one))
        panels.append(page.table_panel(_intervals(found, first, second)))
    diagnose = MetricOptions.diagnose.of(run.metric)
    if diagnose is not None:
        before, now = (diagnose(j.predicted, j.true, len(j), {}).badness for j in (one, two))
        panels.append(page.table_panel(_changed(one, before, now, first, second)))
    return [page.section(f"{second} against {first}", panels)]


def _intervals(found: Sequence[Difference], first: str, second: str) -> Table:
    rows = [(d.name, d.value, d.low, d.high, "yes" if d.low > 0 or d.high < 0 else "no")
            for d in found]  # fmt: skip
    note = (
        f"{second} minus {first}, with the interval that holds 95 % of 1,000 draws of the images "
        f"with replacement, the same for both. {found[0].source if found else ''}"
    )
    columns = ("metric", "difference", "from", "to", "beyond chance")
    return Table("Differences", note, columns, rows)


def _changed(images: Judged, one: np.ndarray, two: np.ndarray, first: str, second: str) -> Table:
    order = np.argsort(-np.abs(two - one), kind="stable")[:CHANGED]
    rows = [(images.name(int(i)), one[i].item(), two[i].item(), (two[i] - one[i]).item())
            for i in order if one[i] != two[i]]  # fmt: skip
    count = int((one != two).sum())
    note = (
        f"{int((two < one).sum())} are better by {second}, {int((two > one).sum())} worse, "
        f"{len(one) - count} the same. At each run's own best score: what is missed and wrong, of "
        "a classifier the score of the wrong class."
    )
    return Table("Images that changed", note, ("image", first, second, "change"), rows)
