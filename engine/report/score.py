"""Scores predictions: eval.py of files, and what it does with the numbers of a checkpoint.

No import of torch here: files are scored without it, by metrics that take tables.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from engine.builders import judged_parts
from engine.config.schema import plain
from engine.console import info
from engine.errors import UserError
from engine.output import explain, predictions, protocol, read_predictions, run_folder
from engine.output.metrics_file import write_metrics
from engine.protocols import Dataset, Metric
from engine.record import Meta, ObjectTable


@dataclass(frozen=True)
class Scored:
    """Predictions for a data set, and their numbers.

    Args:
        data: the images.
        metric: that judged them.
        numbers: of the metric.
        rules: the protocol in one line.
        table: returns the predictions.
        used: the images that count; None: all.
        slots: [A, 4] xyxy the network's anchors, pixels of its input; None where it has none.
    """

    data: Dataset
    metric: Metric
    numbers: dict[str, float]
    rules: str
    table: Callable[[], ObjectTable]
    used: Sequence[Meta] | None = None
    slots: np.ndarray | None = None


def score(cfg: DictConfig) -> float:
    """Print and write the numbers of a predictions file; return the primary one."""
    started = time.perf_counter()
    folder = run_folder.shared(cfg)
    if not cfg.predictions:
        raise UserError("set checkpoint=PATH, or predictions=FILE with truth=FILE or dataset=...")
    scored = of_file(cfg, *judged(cfg, cfg))
    return finish(cfg, cfg, folder, scored, started)


def with_report(cfg: DictConfig, folder: Path) -> None:
    """Score a predictions file against a COCO file, and write report.html: `engine.report`."""
    started = time.perf_counter()
    whole = {"split": None, "box": None, "explain": False, "report": True}
    asked = OmegaConf.create(plain(cfg) | whole)
    finish(asked, asked, folder, of_file(asked, *judged(asked, asked)), started)


def of_file(cfg: DictConfig, data: Dataset, metric: Metric) -> Scored:
    """Score `predictions`."""
    numbers, table = score_file(cfg.predictions, data, metric, cfg.box)
    return Scored(data, metric, numbers, protocol.describe(metric, data), lambda: table)


def finish(
    cfg: DictConfig, full: DictConfig, folder: Path, scored: Scored, started: float
) -> float:
    """Write and print the numbers, and what else is asked for; return the primary one.

    Args:
        cfg: of eval.py.
        full: the same, or with a checkpoint's parts.
        folder: of the evaluation.
        scored: the predictions.
        started: the clock when it began.
    """
    data, metric, numbers = scored.data, scored.metric, scored.numbers
    count = len(data) if scored.used is None else len(scored.used)
    split = "" if cfg.truth else f" {cfg.split}"
    write_metrics(
        folder,
        primary=metric.primary,
        metrics=numbers,
        protocol=scored.rules,
        dataset=(cfg.truth or full.dataset.get("root") or type(data).__name__) + split,
        seconds=time.perf_counter() - started,
        images=count,
        split=cfg.split,
        evaluated=count,
    )
    if cfg.report:
        from engine.report import write as report  # its libraries load slowly

        path = report.write(folder, data, metric, scored.table(), scored.used, scored.slots)
        info(f"report: {path}")
    if cfg.explain:
        explain.write(folder, metric, _ids(data, scored.used))
    info(*(f"{key:24} {value:.6f}" for key, value in numbers.items()))
    info(f"{count} images{split}; {scored.rules}", f"results: {folder}")
    return numbers[metric.primary]


def judged(cfg: DictConfig, full: DictConfig) -> tuple[Dataset, Metric]:
    """The images and their truth, and a metric, which can explain itself where that is asked for.

    Args:
        cfg: of eval.py.
        full: that names the data set and the metric: the same, or with a checkpoint's parts.
    """
    if "_target_" not in full.dataset:
        raise UserError(
            "predictions= needs ground truth: set truth=GT.json, truth=FOLDER of text files, or "
            "dataset=... (split=)"
        )
    data = judged_parts.dataset(full, cfg.split)
    for note in data.notes:
        info(f"{cfg.truth or f'data ({cfg.split})'}: {note}")
    if "_target_" not in full.metric:
        raise UserError("no metric: set metric=voc_map, metric=coco_map or metric=top_k")
    metric = judged_parts.metric(full, data.classes)
    if cfg.explain:
        explain.check(metric)
    return data, metric


def check(cfg: DictConfig) -> None:
    """Refuse what this command does not do."""
    if cfg.source is not None:
        raise UserError(
            f"source={cfg.source}: eval.py needs images with their truth, dataset.root=FOLDER "
            "split=test; images alone are for predict.py source="
        )
    is_text = cfg.truth is not None and Path(cfg.truth).is_dir()
    if is_text and cfg.predictions and not Path(cfg.predictions).exists():
        raise UserError(
            f"predictions={cfg.predictions}: no such file or folder; expected predictions.json, or "
            "a folder of text files"
        )
    if cfg.box and not (cfg.predictions and Path(cfg.predictions).is_dir()):
        raise UserError(
            f"box={cfg.box}: names the columns of text files; set predictions=FOLDER too, or leave "
            "it out"
        )
    if not cfg.checkpoint and (cfg.tile is not None or cfg.tta):
        key = f"tile={cfg.tile}" if cfg.tile is not None else f"tta=[{','.join(cfg.tta)}]"
        raise UserError(f"{key}: a network does this, and there is none without checkpoint=PATH")
    if cfg.truth and cfg.checkpoint:
        raise UserError(
            "truth= scores predictions=FILE, without a checkpoint; to evaluate one on a COCO file: "
            "dataset=coco dataset.annotations=FILE dataset.images=FOLDER"
        )


def _ids(data: Dataset, used: Sequence[Meta] | None) -> list[str | int]:
    """The id of each image that was evaluated, in order; of all where None says so."""
    if used is None:
        return [data.record(i).id for i in range(len(data))]
    return [meta.id for meta in used]


def score_file(
    path: str, data: Dataset, metric: Metric, box: str | None = None
) -> tuple[dict[str, float], ObjectTable]:
    """Return the metric's numbers for predictions, and these; print which rows are left out.

    Args:
        path: a predictions file, or a folder of text files.
        data: with the true objects.
        metric: to compute.
        box: what the columns of text files are; None: what all rows fit.
    """
    found = read_predictions.read(path, data, predictions.categories(data), box)
    unknown, unlisted = found.unknown, found.unlisted
    if unknown and not len(found.table.image) and not unlisted:
        raise UserError(
            f"{path}: no row belongs to an image of this ground truth (image_id {_some(unknown)}; "
            f"the truth has {_some(data.record(i).id for i in range(min(len(data), 9)))}); is it "
            "of another split?"
        )
    if unknown:
        info(
            f"{path}: {unknown.total()} rows belong to {len(unknown)} images that are not in "
            f"this ground truth (image_id {_some(unknown)}); they are not scored"
        )
    if unlisted:
        ids = [category.id for category in predictions.categories(data)]
        info(
            f"{path}: {unlisted.total()} rows have a category_id that this ground truth does not "
            f"list ({_some(sorted(unlisted, key=str))}; it lists {_some(ids)}); they are not scored"
        )
    for note in found.notes:
        info(f"{path}: {note}")
    return read_predictions.score(data, metric, found.table), found.table


def _some(values: Iterable[Any]) -> str:
    """The first values as Python writes them: texts in quotes."""
    first = list(itertools.islice(values, 6))
    return ", ".join(map(repr, first[:5])) + ", ..." * (len(first) > 5)
