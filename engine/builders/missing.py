"""Answers for paths that are not there, before torch is imported, which takes seconds."""

import glob
from pathlib import Path
from typing import Any

from engine.builders import judged_parts
from engine.data.source import is_stream, open_source
from engine.weights.checkpoint_path import is_exported, require_checkpoint

PATHS = ("root", "annotations", "images")  # keys of data sets


def refuse_missing(cfg: Any) -> None:
    """Raise the error of a checkpoint or of images to predict that are not there.

    Raises:
        UserError: as what opens them says it.
    """
    for path in (cfg.get("checkpoint"), cfg.get("resume")):
        if path and not is_exported(path):
            require_checkpoint(path)
    source, has_network = cfg.get("source"), cfg.get("checkpoint") or "backbone" in cfg
    if not has_network or not _is_missing(source):  # what the command lacks comes first
        return
    if not glob.has_magic(source) and not is_stream(source):
        open_source(source=source)


def refuse_missing_data(cfg: Any) -> None:
    """Raise the error of training images that are not there; a data set that is, is not opened.

    Raises:
        UserError: as the data set says it.
    """
    if any(_is_missing(cfg.dataset.get(key)) for key in PATHS):
        judged_parts.dataset(cfg, "train")


def _is_missing(path: Any) -> bool:
    return isinstance(path, str) and bool(path) and not Path(path).exists()
