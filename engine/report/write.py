"""Writes report.html into the folder of a run or an evaluation, from what stands there."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.arguments import start
from engine.console import format_defect
from engine.output.table import format_csv
from engine.protocols import Dataset, Metric, MetricOptions
from engine.record import Meta, ObjectTable
from engine.report import curves, page, pictures, stored
from engine.report.diagnosis import Chart, Diagnosis, Mark, Place, Table
from engine.report.judged import Judged, judged
from engine.whole_file import write_whole

WORST, RANDOM = 30, 12  # images
SUSPECTS = 100  # likely errors of the annotation in the page; all are in the CSV
PARTS = ("backbone", "head", "loss", "optimizer", "schedule", "augment", "dataset")
SUSPECT_COLUMNS = ("image", "suspicion", "annotated", "predicted", "score", "IoU", "box x y w h")


def write(
    folder: Path,
    data: Dataset,
    metric: Metric,
    predicted: ObjectTable,
    evaluated: Sequence[Meta] | None = None,
    slots: np.ndarray | None = None,
) -> Path:
    """Write report.html, and label_errors.csv where there are some; return the page's path.

    Args:
        folder: with metrics.json, and of a run metrics.csv and config.yaml.
        data: that was evaluated.
        metric: that judged it.
        predicted: what `engine.output.read_predictions` read of the predictions file.
        evaluated: the images; None: all of the data.
        slots: [A, 4] xyxy the network's anchors, pixels of its input; None where it has none.
    """
    results = stored.results(folder)
    diagnose = MetricOptions.diagnose.of(metric)
    found, shots, suspects = None, "", ""
    if diagnose is not None:
        rows = None if evaluated is None else [meta.index for meta in evaluated]
        images = judged(data, predicted, rows)
        numbers = {k: v for k, v in results["metrics"].items() if v is not None}
        found = diagnose(images.predicted, images.true, len(images), numbers)
        shots = _shots(images, found)
        suspects = _suspects(folder, images, found)
        if evaluated and slots is not None:
            matrices = np.stack([meta.matrix for meta in evaluated])
            from engine.report import anchors  # it needs torch

            found.panels.append(anchors.table(data.classes, images.true, matrices, slots))
    columns = curves.read(folder)
    name, value = results["primary_name"], results["primary_value"]
    title = f"{results['dataset']}: {name}"
    sections = [
        page.head(title, name, value, results["protocol"], found.advice if found else "",
                  _facts(folder, results)),
        page.live_section(found.live) if found and found.live else "",
        page.section("What is right and what is wrong", _panels(found, images)) if found else "",
        shots,
        suspects,
        page.section("Learning curves", [*map(page.chart_panel, curves.charts(columns, name))]),
        page.section("Data", _data(folder, data)),
        page.section("All numbers", [page.table_panel(_numbers(results))]),
    ]  # fmt: skip
    path = folder / "report.html"
    write_whole(path, page.page(title, sections))
    return path


def _panels(found: Diagnosis, images: Judged) -> list[str]:
    def readable(value: Any) -> Any:
        return images.name(value) if isinstance(value, Place) else value

    panels = []
    for panel in found.panels:
        if isinstance(panel, Chart):
            panels.append(page.chart_panel(panel))
        else:
            rows = [[readable(value) for value in row] for row in panel.rows]
            panels.append(page.table_panel(panel._replace(rows=rows)))
    return panels


def _facts(folder: Path, results: dict[str, Any]) -> dict[str, Any]:
    """What was done, for the head of the page."""
    facts = {"measured on": results["dataset"], "best epoch": results.get("epoch"),
             "images": results.get("images")}  # fmt: skip
    config = _config(folder / "config.yaml")
    if config:
        hydra = _node(_config(folder / ".hydra/hydra.yaml"), "hydra")  # of the command
        facts["model"] = _node(_node(hydra, "runtime"), "choices").get("model")
        for part in PARTS:
            node = _node(config, part)
            target, name = str(node.get("_target_", "")), node.get("name")
            facts[part] = " ".join(filter(None, (target.rpartition(".")[2], name and str(name))))
        facts["image size"] = config.get("image_size")
        facts["batch size"] = _node(config, "loader").get("batch_size")
        job = _node(hydra, "job").get("name", "train")
        overrides = _config(folder / ".hydra/overrides.yaml", list)
        facts["command"] = " ".join([start(str(job)), *map(str, overrides)])
    facts |= {key: results.get(key) for key in ("seconds", "machine", "commit")}
    return facts


def _config(path: Path, kind: type = dict) -> Any:
    return stored.config(path, kind) if path.exists() else kind()


def _node(config: dict[str, Any], key: str) -> dict[str, Any]:
    """The node at a key, empty where there is none."""
    node = config.get(key)
    return node if isinstance(node, dict) else {}


def _numbers(results: dict[str, Any]) -> Table:
    rows = [(key, value) for key, value in results["metrics"].items()]
    return Table("metrics.json", results["protocol"], ("metric", "value"), rows)


def _shots(images: Judged, found: Diagnosis) -> str:
    """The worst images, then some at random."""
    bad = np.argsort(-found.badness, kind="stable")[:WORST]
    worst = [int(i) for i in bad if found.badness[i] > 0]
    others = np.setdiff1d(np.arange(len(images)), worst)
    chosen = np.random.default_rng(0).permutation(others)[:RANDOM]
    drawn = [_shot(images, found, i) for i in [*worst, *chosen.tolist()]]
    least = f" Of predictions of a score of at least {found.live.best:.2f}." if found.live else ""
    note = f"The {len(worst)} worst images, then {len(chosen)} at random.{least}"
    classes = sorted({name for _, names in drawn for name in names})
    is_marked = any("<rect" in html for html, _ in drawn)
    return page.shots_section([html for html, _ in drawn], classes, note, is_marked)


def _shot(images: Judged, found: Diagnosis, place: int) -> tuple[str, set[str]]:
    image = images.image(place)
    marks = images.upright(place, found.marks(place), image)
    names = {mark.label for mark in marks} or _labels(images, place)
    why = found.reason(place) + _faint(images, place, found, marks)
    return pictures.figure(image, marks, images.name(place), why, sorted(names)), names


def _labels(images: Judged, place: int) -> set[str]:
    return {images.data.classes[k] for k in images.true.labels[images.true.image == place]}


def _faint(images: Judged, place: int, found: Diagnosis, marks: Iterable[Mark]) -> str:
    """Where no prediction is shown: the best score there is."""
    if found.live is None or any(not mark.truth for mark in marks) or not marks:
        return ""
    scores = images.predicted.scores[images.predicted.image == place]
    return f"; best score {scores.max():.2f}" if len(scores) else "; nothing predicted"


def _suspects(folder: Path, images: Judged, found: Diagnosis) -> str:
    """The table of likely errors of the annotation; all of them go into a CSV too."""
    if not found.suspects:
        none = Table("None", "No sure prediction contradicts the annotation.", (), ())
        return page.section("Likely errors of the annotation", [page.table_panel(none)])
    rows = [
        [images.name(row["image"]), *(row.get(name, "") for name in SUSPECT_COLUMNS[1:])]
        for row in found.suspects
    ]
    write_whole(folder / "label_errors.csv", format_csv(SUSPECT_COLUMNS, rows))
    note = (
        f"Predictions of a high score that contradict the annotation, the surest first; all "
        f"{len(rows)} are in label_errors.csv."
    )
    table = Table("Look at these labels", note, SUSPECT_COLUMNS, rows[:SUSPECTS])
    return page.section("Likely errors of the annotation", [page.table_panel(table)])


def _data(folder: Path, data: Dataset) -> list[str]:
    """The defects that were found while reading."""
    path = folder / "data_report.json"
    report = stored.defects(path) if path.exists() else {"": data.report}
    rows = [(split, format_defect(row)) for split, lines in report.items() for row in lines]
    if not rows:
        return []
    note = f"{len(rows)} rows or files; of more than {SUSPECTS} the first are here."
    table = Table("Defects", note, ("split", "what is wrong, what was done"), rows[:SUSPECTS])
    return [page.table_panel(table)]
