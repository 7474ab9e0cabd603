"""The command `predict.py`: what a network finds in images, videos, cameras and streams.

The network is that of a checkpoint, or with `model=... backbone.weights=...` one whose weights,
head included, come from elsewhere.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tqdm import tqdm

from engine.builders import from_checkpoint, parts
from engine.builders.passes import several
from engine.config.image_size import size_of
from engine.console import info
from engine.data.files import Files
from engine.data.frames import ENDLESS, Stream
from engine.data.loader import Loader, configure_worker_threads
from engine.data.source import open_source
from engine.errors import UserError
from engine.network_protocols import HeadOptions
from engine.output import results, run_folder
from engine.output.results import Results
from engine.passes.cost import Timed
from engine.structures import Objects
from engine.training.loop import predict_batches
from engine.training.precision import resolve

LINE = 5  # objects an image that the console names
LONG = 100  # images from which a terminal gets a bar
BAR = "{desc} {percentage:.0f}%, {n_fmt} of {total_fmt}, {remaining} left {bar}"
WITHOUT_END = "{desc} {n_fmt} frames, {rate_fmt}"


def predict(cfg: DictConfig) -> None:
    """Write what `save` asks of each image; few images at a time are in memory."""
    if not cfg.source:
        raise UserError("set source=FILE, FOLDER, GLOB, VIDEO, a stream's address or a camera, 0")
    results.check_save(cfg.save)
    if not cfg.get("checkpoint", "model="):
        raise UserError("set checkpoint=PATH, or model=resnet50 backbone.weights=DEFAULT")
    device = parts.device(cfg.device)
    overrides = HydraConfig.get().overrides.task
    network, full, categories = from_checkpoint.predictor(cfg, device, overrides)
    has_boxes = "boxes" in network.head.outputs
    results.check_boxes(cfg.save, has_boxes)
    data = open_source(source=cfg.source, on_error=cfg.on_error, frames=cfg.frames)
    frames = not isinstance(data, Files)
    full.loader.workers = min(full.loader.workers, 1) if frames else full.loader.workers
    kept = results.kept_images(save=cfg.save, frames=frames)
    passes = several(cfg, full, network, device)
    configure_worker_threads()
    loader = parts.loader(full, data, device, kept=kept, several=passes)
    timed = Timed(network) if passes else None
    folder = run_folder.shared(cfg)

    def image(index: int) -> np.ndarray:
        found = kept.take(index)
        return data.image(index) if found is None else found

    writer = Results(
        folder=folder, save=list(cfg.save), categories=categories, has_boxes=has_boxes, data=data,
        image=image, show=cfg.show, size=size_of(full), threads=full.loader.workers,
    )  # fmt: skip
    with writer, _stopping(data), _bar(loader) as bar:
        for objects, batch, _ in predict_batches(
            timed or network, loader, device, resolve(full.trainer.precision, device), losses=False
        ):
            attention = None if passes else HeadOptions.attention.of(network.head)
            found = writer.add(objects, batch.meta, attention)
            show = cfg.show if has_boxes else 0
            has = "predictions.json has" if writer.json else "there are"
            best = (_best(each, writer.classes, show, has) for each in found)
            with bar.external_write_mode():
                info(*(f"{m.path}: {text}" for m, text in zip(batch.meta, best, strict=True)))
            bar.update(len(found))
    if passes and timed and writer.images:
        info(f"{passes.passes.protocol}; {timed.cost(writer.images, size_of(full))}")
    _report(data, writer)


def _bar(loader: Loader) -> tqdm:
    """A bar of images, for long sources on a terminal."""
    count = loader.images
    return tqdm(desc="predicting", total=None if count == ENDLESS else count, leave=False,
                disable=None if count >= LONG else True, dynamic_ncols=True,
                bar_format=WITHOUT_END if count == ENDLESS else BAR)  # fmt: skip


@contextmanager
def _stopping(data: Any) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a stream; a second one ends the command."""
    if not isinstance(data, Stream):
        yield
        return
    numbers = signal.SIGINT, signal.SIGTERM
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_: Any) -> None:
        restore()
        data.stop()

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def _report(data: Any, writer: Results) -> None:
    """Say what there is, and raise what ended a stream."""
    for entry in data.report:
        info(f"left out: {entry['reason']}" if isinstance(data, Files) else entry["reason"])
    images = f"{writer.images} image{'s' * (writer.images != 1)}"
    rows = f"{writer.rows} rows in predictions.json; both" if writer.json else f"{writer.rows} rows"
    info(f"{images}, {rows}: {writer.folder}")
    if isinstance(data, Stream) and data.lost:
        raise UserError(f"{data.path}: {data.lost}; what was found until then is written")


def _best(objects: Objects, classes: list[str], show: float, has: str) -> str:
    """The first objects that score `show`, by class and score, for the console."""
    total, scores = len(objects), objects.scores.numpy()
    shown = np.flatnonzero(scores >= show)[:LINE]
    if not len(shown):
        below = f"nothing scores show={show:g} or more; {has} {total} below it"
        return below if total else "nothing found"
    pairs = zip(objects.labels.numpy()[shown].tolist(), scores[shown].tolist(), strict=True)
    return ", ".join(f"{classes[k] if k >= 0 else 'object'}: {100 * s:.1f}%" for k, s in pairs)
