"""Evaluates a checkpoint on a split, for the command `eval.py`."""

import time
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from engine.builders import from_checkpoint, parts
from engine.builders.compatibility import check_data
from engine.builders.passes import several
from engine.config.schema import plain
from engine.network import Network, Predictor
from engine.network_protocols import HeadOptions
from engine.output import (
    draw,
    draw_anchors,
    predictions,
    protocol,
    read_predictions,
    run_folder,
)
from engine.protocols import Dataset, Metric
from engine.record import Meta
from engine.report import score
from engine.structures import Objects
from engine.training import loop
from engine.training.precision import resolve
from engine.whole_file import write_whole


def evaluate(cfg: DictConfig) -> float:
    """Print and write the metric's numbers; return the primary one."""
    started = time.perf_counter()
    folder = run_folder.shared(cfg)
    device = parts.device(cfg.device)
    saved, full = from_checkpoint.load(cfg.checkpoint, cfg, device)
    parts.check_all(full)
    data, metric = score.judged(cfg, full)
    from_checkpoint.check_classes(saved["classes"], data.classes, cfg.checkpoint)
    check_data(full, data)
    if cfg.predictions:
        scored = score.of_file(cfg, data, metric)
    else:
        network = from_checkpoint.network(full, saved, cfg.checkpoint, device)
        scored = _run(cfg, network, full, data, metric, device, folder)
    return score.finish(cfg, full, folder, scored, started)


def _run(
    cfg: DictConfig,
    network: Predictor,
    full: DictConfig,
    data: Dataset,
    metric: Metric,
    device: torch.device,
    folder: Path,
) -> score.Scored:
    """Let the network predict, and write what it found."""
    found = several(cfg, full, network, device)
    loader = parts.loader(full, data, device, several=found)
    precision = resolve(full.trainer.precision, device)
    numbers, predicted = loop.evaluate_network(network, loader, metric, device, precision)
    slots = None
    if cfg.report and isinstance(network, Network):  # an exported file has no slots
        slots = draw_anchors.slots(network, parts.loader(full, data, device))
    write_whole(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(full))))
    write_predictions(folder, data, predicted, cfg.draw, cfg.show)
    draw.charts(metric, folder / "images")
    used = [meta for _, batch in predicted for meta in batch]
    rules = protocol.describe(
        metric,
        data,
        used,
        HeadOptions.protocol.of(network.head),
        protocol.subset(full.trainer),
        found.passes.protocol if found else "",
    )
    path = folder / "predictions.json"
    table = partial(read_predictions.read_table, path, data)
    return score.Scored(data, metric, numbers, rules, table, used, slots)


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
