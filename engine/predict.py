"""The command `predict.py`: what a network finds in files, folders, globs and videos.

The network is that of a checkpoint, or with `model=... backbone.weights=...` one whose weights,
head included, come from elsewhere.
"""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from engine.builders import from_checkpoint, parts
from engine.config.image_size import size_of
from engine.console import info
from engine.data.files import VIDEO_SUFFIXES, Files, Video
from engine.errors import UserError
from engine.output import draw, predictions, run_folder
from engine.protocols import HeadOptions
from engine.structures import Objects
from engine.training.loop import predict_batches
from engine.training.precision import resolve

LINE = 5  # objects an image that the console names


def predict(cfg: DictConfig) -> None:
    """Write annotated images and predictions.json; one batch at a time is in memory."""
    if not cfg.source:
        raise UserError("set source=FILE, FOLDER, GLOB or VIDEO")
    if not cfg.get("checkpoint", "model="):
        raise UserError("set checkpoint=PATH, or model=resnet50 backbone.weights=DEFAULT")
    device = parts.device(cfg.device)
    overrides = HydraConfig.get().overrides.task
    network, full, categories = from_checkpoint.predictor(cfg, device, overrides)
    video = Path(cfg.source).suffix.lower() in VIDEO_SUFFIXES
    data = Video(source=cfg.source) if video else Files(source=cfg.source, on_error=cfg.on_error)
    full.loader.workers = 0 if video else full.loader.workers  # frames are read in order
    loader = parts.loader(full, data, device)
    folder = run_folder.shared(cfg)
    album = draw.Album(folder / "images", data.rate if isinstance(data, Video) else None)
    writer = predictions.Writer(folder / "predictions.json", categories)
    classes, count = [category.name for category in categories], 0
    with album, writer:
        for objects, batch, _ in predict_batches(
            network, loader, device, resolve(full.trainer.precision, device)
        ):
            writer.add(objects, batch.meta)
            count += len(batch.meta)
            for i, meta in enumerate(batch.meta):
                found, image, caption = objects.of(i), data.image(meta.index), ""
                if (attention := HeadOptions.attention.of(network.head)) is not None:
                    weights = attention[i].float().cpu().numpy()
                    image = draw.heat(image, weights, meta.matrix, size_of(full))
                    caption = f"attention: red is {draw.red_at(weights):.1f} x the mean"
                drawn = draw.annotate(image, found, classes, cfg.show, caption=caption)
                album.add(drawn, meta)
                has_boxes = "boxes" in network.head.outputs
                info(f"{meta.path}: {_best(found, classes, cfg.show if has_boxes else 0)}")
    for entry in data.report:
        info(f"left out: {entry['reason']}")
    images = f"{count} image{'s' * (count != 1)}"
    info(f"{images}, {writer.count} rows in predictions.json; both: {folder}")


def _best(objects: Objects, classes: list[str], show: float) -> str:
    """The first objects that score `show`, by class and score, for the console."""
    total = len(objects)
    objects = objects.select(objects.scores >= show)
    if not len(objects):
        below = f"nothing scores show={show:g} or more; predictions.json has {total} below it"
        return below if total else "nothing found"
    pairs = zip(objects.labels[:LINE].tolist(), objects.scores[:LINE].tolist(), strict=True)
    return ", ".join(f"{classes[k] if k >= 0 else 'object'}: {100 * s:.1f}%" for k, s in pairs)
