"""Keys that are `auto` get the values that the training images ask for."""

from typing import Any

import hydra.utils
import numpy as np
import torch
from omegaconf import DictConfig

from engine.builders.instantiate import part
from engine.config.image_size import WITHOUT_WEIGHTS, size_of
from engine.config.schema import plain
from engine.console import info
from engine.data import survey
from engine.errors import UserError
from engine.protocols import Dataset, HeadOptions

AUTO = "auto"
IMAGES = 2000  # of training whose headers are read: a fifth of a second
CELLS = 2  # a side of a classifier's coarsest map, at least
ON_CPU, ON_GPU = 320, 640  # pixels of a detector's longer side at most, where image_size=auto


def fit(cfg: DictConfig, data: Dataset, backbone: Any, device: torch.device) -> None:
    """Set what is `auto` of the input's size and of the head, and print it.

    Args:
        cfg: the whole configuration, changed.
        data: the training images.
        backbone: as built.
        device: where it trains.

    Raises:
        UserError: there is no object to choose by.
    """
    head = hydra.utils.get_class(cfg.head["_target_"])
    keys = sorted(key for key in HeadOptions.auto_keys.of(head) if cfg.head.get(key) == AUTO)
    is_open = cfg.image_size == AUTO
    if not (keys or is_open):
        return
    seen = survey.seen(data, len(data), IMAGES)
    if is_open:
        cfg.image_size = _size(cfg, head, seen, backbone, device)
    if not keys:
        return
    view = survey.view(seen, part(cfg.augment, "augment"), size_of(cfg))
    choose = HeadOptions.fit.of(head)
    if view is None or choose is None:
        raise UserError(f"head.{keys[0]}=auto: the training images have no boxes; set it")
    values, reach = choose(view, backbone.strides, plain(cfg.head))
    for key, value in values.items():
        cfg.head[key] = value
    info(f"{', '.join(f'head.{key}={value}' for key, value in values.items())} {reach}")


def _size(
    cfg: DictConfig, head: Any, seen: survey.Seen, backbone: Any, device: torch.device
) -> int | list[int]:
    """The input's size, by the objects of a detector, else by the images."""
    choose = HeadOptions.fit_size.of(head)
    view = survey.view(seen, part(cfg.augment, "augment"), size_of(cfg)) if choose else None
    if choose is None or view is None:
        sides = [min(size) for size in seen.sizes] or [WITHOUT_WEIGHTS]
        return max(min(int(np.median(sides)), WITHOUT_WEIGHTS), CELLS * max(backbone.strides))
    most = ON_CPU if device.type == "cpu" else ON_GPU
    height, width = choose(view, most)
    info(f"image_size=[{height},{width}] by the sizes of the objects, at most {most} on {device}")
    return [height, width]
