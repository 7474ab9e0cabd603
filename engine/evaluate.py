"""The command `eval.py`: evaluate a checkpoint on a split, or a predictions file."""

import time
from contextlib import closing
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from engine.builders import from_checkpoint, parts
from engine.console import info
from engine.errors import UserError
from engine.output import draw, predictions
from engine.output.run_log import write_metrics
from engine.protocols import Dataset, Metric
from engine.structures import Meta, Objects
from engine.training import loop
from engine.training.precision import resolve


def evaluate(cfg: DictConfig) -> float:
    """Print and write the metric's numbers; return the primary one."""
    started = time.perf_counter()
    folder = Path(HydraConfig.get().runtime.output_dir)
    device = parts.device(cfg.device)
    saved, full = {}, cfg
    if cfg.checkpoint:
        saved, full = from_checkpoint.load(cfg.checkpoint, cfg, device)
    if not cfg.predictions and not saved:
        raise UserError("set checkpoint=PATH, or predictions=FILE with truth=FILE or dataset=...")
    if saved:
        parts.check_all(full)
    if "_target_" not in full.dataset:
        raise UserError(
            "predictions= needs ground truth: set truth=GT.json or dataset=... (split=)"
        )
    data = parts.dataset(full, cfg.split)
    for note in data.notes:
        info(f"data ({cfg.split}): {note}")
    if saved:
        from_checkpoint.check_classes(saved["classes"], data.classes, cfg.checkpoint)
    if "_target_" not in full.metric:
        raise UserError("no metric: set metric=voc_map, metric=coco_map or metric=top_k")
    metric = parts.metric(full, data.classes)
    if cfg.predictions:
        scores = score_predictions_file(cfg.predictions, data, metric)
    else:
        network = from_checkpoint.network(full, saved, cfg.checkpoint, device)
        loader = parts.loader(full, data, device)
        precision = resolve(full.trainer.precision, device)
        scores, predicted = loop.evaluate_network(network, loader, metric, device, precision)
        write_predictions(folder, data, predicted, cfg.draw, cfg.show)
        draw.charts(metric, folder / "images")
    split = "" if cfg.truth else f" {cfg.split}"
    write_metrics(
        folder,
        primary=metric.primary,
        metrics=scores,
        protocol=metric.protocol,
        dataset=(cfg.truth or full.dataset.get("root") or type(data).__name__) + split,
        seconds=time.perf_counter() - started,
        images=len(data),
    )
    info("\n".join(f"{key:24} {value:.6f}" for key, value in scores.items()))
    info(f"{len(data)} images{split}; {metric.protocol}\nresults: {folder}")
    return scores[metric.primary]


def write_predictions(
    folder: Path,
    data: Dataset,
    predicted: list[tuple[Objects, list[Meta]]],
    images: int,
    show: float,
) -> None:
    """Write predictions.json, and the first `images` images with objects that score `show`."""
    with closing(
        predictions.Writer(folder / "predictions.json", predictions.categories(data))
    ) as writer:
        for objects, meta in predicted:
            writer.add(objects, meta)
    album = draw.Album(folder / "images")
    for image, meta in draw.samples(data, predicted, images, show):
        album.add(image, meta)


def score_predictions_file(path: str, data: Dataset, metric: Metric) -> dict[str, float]:
    """Return the metric's numbers for a predictions file; print how many rows are left out."""
    predicted = predictions.read(path, data, predictions.categories(data))
    unknown = predicted.unknown
    if unknown and not len(predicted.objects):
        raise UserError(
            f"{path}: no row belongs to an image of this ground truth; is it of another split?"
        )
    if unknown:
        info(
            f"{path}: {unknown.total()} rows belong to {len(unknown)} images that are not in "
            "this ground truth; they are not scored"
        )
    return predictions.score(data, metric, predicted.objects)
