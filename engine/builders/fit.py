"""Keys that are `auto` get the values that the training images ask for."""

from typing import Any

import hydra.utils
import numpy as np
import torch
from omegaconf import DictConfig

from engine.builders import affordable
from engine.builders.instantiate import part
from engine.config.image_size import WITHOUT_WEIGHTS, size_of
from engine.config.schema import plain
from engine.console import info
from engine.data import survey
from engine.distributed import collectives
from engine.errors import UserError
from engine.protocols import Dataset, HeadOptions

AUTO = "auto"
IMAGES = 2000  # of training whose headers are read: a fifth of a second
CELLS = 2  # a side of a classifier's coarsest map, at least
# Of a detector whose image_size is auto: the side of a square of as many pixels as it has at most.
ON_CPU, ON_GPU = 448, 640


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
    fits = HeadOptions.fits.of(head)
    keys = sorted(key for key in fits if cfg.head.get(key) == AUTO)
    is_open = cfg.image_size == AUTO
    if not (keys or is_open):
        return
    seen = survey.seen(data, len(data), IMAGES)
    if is_open:
        cfg.image_size = _size(cfg, data, seen, backbone, device)
    if not keys:
        return
    view = survey.view(seen, part(cfg.augment, "augment"), size_of(cfg))
    if view is None:
        raise UserError(f"head.{keys[0]}=auto: the training images have no boxes; set it")
    values, reach = fits[keys[0]](view, backbone.strides, plain(cfg.head))
    for key, value in values.items():
        cfg.head[key] = value
    info(f"{', '.join(f'head.{key}={value}' for key, value in values.items())} {reach}")


def _size(
    cfg: DictConfig, data: Dataset, seen: survey.Seen, backbone: Any, device: torch.device
) -> int | list[int]:
    """The input's size, by the objects of a detector, else by the images."""
    choose = HeadOptions.fit_size.of(hydra.utils.get_class(cfg.head["_target_"]))
    view = survey.view(seen, part(cfg.augment, "augment"), size_of(cfg)) if choose else None
    if choose is None or view is None:
        sides = [min(size) for size in seen.sizes] or [WITHOUT_WEIGHTS]
        return max(min(int(np.median(sides)), WITHOUT_WEIGHTS), CELLS * max(backbone.strides))
    most, why = ON_CPU if device.type == "cpu" else ON_GPU, f"on {device}"
    if minutes := cfg.trainer.minutes:
        side = collectives.broadcast_from_rank_zero(
            lambda: affordable.side(cfg, len(data.classes), len(data), backbone, device)
        )
        if side < most:
            views = affordable.views(cfg.trainer, len(data))
            most, why = side, f"for {views:,} images in {minutes:g} minutes"
    height, width = choose(view, most)
    info(
        f"image_size=[{height},{width}] by the sizes of the objects and of the images, at most "
        f"{most} x {most} pixels {why}"
    )
    return [height, width]
