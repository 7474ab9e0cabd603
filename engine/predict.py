"""The command `predict.py`: what a checkpoint finds in files, folders, globs and videos."""

from contextlib import closing
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from engine import build, draw, predictions
from engine.data.files import VIDEO_SUFFIXES, Files, Video
from engine.errors import UserError
from engine.logging import say
from engine.loop import detect
from engine.precision import resolve

LINE = 5  # objects a picture that the console names


def predict(cfg: DictConfig) -> None:
    """Write annotated pictures and predictions.json; one batch at a time is in memory."""
    for needed in ("checkpoint", "source"):
        if not cfg[needed]:
            raise UserError(f"say {needed}=PATH")
    device = build.device(cfg.device)
    saved, full = build.from_checkpoint(cfg.checkpoint, cfg, device)
    network, classes = build.trained(full, saved, cfg.checkpoint, device), saved["classes"]
    video = Path(cfg.source).suffix.lower() in VIDEO_SUFFIXES
    data = Video(source=cfg.source) if video else Files(source=cfg.source, on_error=cfg.on_error)
    full.loader.workers = 0 if video else full.loader.workers  # frames are read in order
    loader = build.load(full, data, device)
    folder = Path(HydraConfig.get().runtime.output_dir)
    album = draw.Album(folder / "pictures", data.rate if isinstance(data, Video) else None)
    writer = predictions.Writer(folder / "predictions.json", range(1, len(classes) + 1))
    with closing(album), closing(writer):
        for objects, batch, _ in detect(
            network, loader, device, resolve(full.trainer.precision, device)
        ):
            writer.add(objects, batch.meta)
            for i, meta in enumerate(batch.meta):
                mine = objects.of(i)
                album.add(draw.annotate(data.image(meta.index), mine, classes, cfg.show), meta)
                best = zip(mine.labels[:LINE].tolist(), mine.scores[:LINE].tolist(), strict=True)
                named = ", ".join(f"{classes[k]}: {100 * s:.1f}%" for k, s in best)
                say(f"{meta.path}: {named or 'nothing found'}")
    for entry in data.report:
        say(f"left out: {entry['reason']}")
    say(f"{len(data)} pictures, {writer.count} objects; pictures, predictions.json: {folder}")
