"""The command `eval.py`: evaluate a checkpoint on a split, or a predictions file."""

import itertools
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from engine.builders import from_checkpoint, parts
from engine.builders.passes import several
from engine.config.schema import plain
from engine.console import info
from engine.errors import UserError
from engine.network import Network, Predictor
from engine.output import (
    draw,
    draw_anchors,
    explain,
    predictions,
    protocol,
    read_predictions,
    run_folder,
)
from engine.output.run_log import write_metrics
from engine.protocols import Dataset, Metric
from engine.record import ObjectTable
from engine.report import write as report
from engine.structures import Meta, Objects
from engine.training import loop
from engine.training.precision import resolve
from engine.whole_file import write_whole


def evaluate(cfg: DictConfig) -> float:
    """Print and write the metric's numbers; return the primary one."""
    _check(cfg)
    started = time.perf_counter()
    folder = run_folder.shared(cfg)
    device = parts.device(cfg.device)
    saved, full = {}, cfg
    if cfg.checkpoint:
        saved, full = from_checkpoint.load(cfg.checkpoint, cfg, device)
    if not cfg.predictions and not saved:
        raise UserError("set checkpoint=PATH, or predictions=FILE with truth=FILE or dataset=...")
    if saved:
        parts.check_all(full)
    data = _dataset(cfg, full, saved)
    metric = _metric(full, data.classes, cfg.explain)
    used, slots = None, None
    if cfg.predictions:
        scores, table = score_predictions_file(cfg.predictions, data, metric, cfg.box)
        count, rules = len(data), protocol.describe(metric, data)
    else:
        network = from_checkpoint.network(full, saved, cfg.checkpoint, device)
        scores, predicted, slots, how = _run(cfg, network, full, data, metric, device)
        used = [m for _, batch in predicted for m in batch]
        subset = protocol.subset(full.trainer)
        count, rules = len(used), protocol.describe(metric, data, used, network.head, subset, how)
        write_whole(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(full))))
        write_predictions(folder, data, predicted, cfg.draw, cfg.show)
        draw.charts(metric, folder / "images")
    split = "" if cfg.truth else f" {cfg.split}"
    write_metrics(
        folder,
        primary=metric.primary,
        metrics=scores,
        protocol=rules,
        dataset=(cfg.truth or full.dataset.get("root") or type(data).__name__) + split,
        seconds=time.perf_counter() - started,
        images=count,
        split=cfg.split,
        evaluated=count,
    )
    if cfg.report:
        if not cfg.predictions:
            table = read_predictions.read_table(folder / "predictions.json", data)
        info(f"report: {report.write(folder, data, metric, table, used, slots)}")
    if cfg.explain:
        explain.write(folder, metric, _ids(data, used))
    info(*(f"{key:24} {value:.6f}" for key, value in scores.items()))
    info(f"{count} images{split}; {rules}", f"results: {folder}")
    return scores[metric.primary]


def _dataset(cfg: DictConfig, full: DictConfig, saved: dict[str, Any]) -> Dataset:
    """The images and their truth, which a metric can judge."""
    if "_target_" not in full.dataset:
        raise UserError(
            "predictions= needs ground truth: set truth=GT.json, truth=FOLDER of text files, or "
            "dataset=... (split=)"
        )
    data = parts.dataset(full, cfg.split)
    for note in data.notes:
        info(f"{cfg.truth or f'data ({cfg.split})'}: {note}")
    if saved:
        from_checkpoint.check_classes(saved["classes"], data.classes, cfg.checkpoint)
    if "_target_" not in full.metric:
        raise UserError("no metric: set metric=voc_map, metric=coco_map or metric=top_k")
    return data


def _check(cfg: DictConfig) -> None:
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


def _metric(cfg: DictConfig, classes: list[str], explained: bool) -> Metric:
    """The metric, which can explain itself where that is asked for."""
    metric = parts.metric(cfg, classes)
    if explained:
        explain.check(metric)
    return metric


def _ids(data: Dataset, used: Sequence[Meta] | None) -> list[str | int]:
    """The id of each image that was evaluated, in order; of all where None says so."""
    if used is None:
        return [data.record(i).id for i in range(len(data))]
    return [meta.id for meta in used]


def _run(
    cfg: DictConfig,
    network: Predictor,
    full: DictConfig,
    data: Dataset,
    metric: Metric,
    device: torch.device,
) -> tuple[dict[str, float], list[tuple[Objects, list[Meta]]], np.ndarray | None, str]:
    """The metric's numbers, all predictions by batch, for a report the anchors, and the passes."""
    found = several(cfg, full, network, device)
    passes = found.passes.protocol if found else ""
    loader = parts.loader(full, data, device, several=found)
    precision = resolve(full.trainer.precision, device)
    scores, predicted = loop.evaluate_network(network, loader, metric, device, precision)
    slots = None
    if cfg.report and isinstance(network, Network):  # an exported file has no slots
        slots = draw_anchors.slots(network, parts.loader(full, data, device))
    return scores, predicted, slots, passes


def write_predictions(
    folder: Path,
    data: Dataset,
    predicted: list[tuple[Objects, list[Meta]]],
    images: int,
    show: float,
) -> None:
    """Write predictions.json, and the first `images` images with objects that score `show`."""
    predictions.write(folder / "predictions.json", data, predicted)
    album = draw.Album(folder / "images")
    for image, meta in draw.samples(data, predicted, images, show):
        album.add(image, meta)


def score_predictions_file(
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
