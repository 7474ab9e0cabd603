"""Keys that are `auto` get the values that the training images ask for."""

from typing import Any

import hydra.utils
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from engine.builders import affordable
from engine.builders.instantiate import part
from engine.config.image_size import WITHOUT_WEIGHTS, size_of
from engine.config.schema import plain
from engine.console import info
from engine.data import survey
from engine.distributed import processes
from engine.errors import UserError
from engine.network_protocols import HeadOptions
from engine.protocols import Dataset

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
    is_open = cfg.image_size == AUTO
    if not (_open_keys(cfg) or is_open):
        return
    seen = survey.seen(data, len(data), IMAGES)
    if is_open:
        cfg.image_size = _size(cfg, data, seen, backbone, device)
    values, reach = _values(cfg, seen, backbone, size_of(cfg))
    if values:
        cfg.head = OmegaConf.merge(cfg.head, values)
        info(f"{', '.join(f'head.{key}={value}' for key, value in values.items())} {reach}")


def _open_keys(cfg: DictConfig) -> list[str]:
    fits = HeadOptions.fits.of(hydra.utils.get_class(cfg.head["_target_"]))
    return sorted(key for key in fits if cfg.head.get(key) == AUTO)


def _values(
    cfg: DictConfig, seen: survey.Seen, backbone: Any, size: tuple[int, int]
) -> tuple[dict[str, Any], str]:
    """What the head's keys that are `auto` become in an input of (height, width); their reach."""
    keys = _open_keys(cfg)
    if not keys:
        return {}, ""
    view = survey.view(seen, part(cfg.augment, "augment"), size)
    if view is None:
        raise UserError(f"head.{keys[0]}=auto: the training images have no boxes; set it")
    fits = HeadOptions.fits.of(hydra.utils.get_class(cfg.head["_target_"]))
    return fits[keys[0]](view, backbone.strides, plain(cfg.head))


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
        values, _ = _values(cfg, seen, backbone, (affordable.TRIED, affordable.TRIED))
        node: Any = OmegaConf.merge(cfg.head, values)
        side = processes.broadcast_from_rank_zero(
            lambda: affordable.side(cfg, node, len(data.classes), len(data), backbone, device)
        )
        if side < most:
            views = affordable.views(cfg.trainer, len(data))
            most, why = side, f"that show {views:,} images in {minutes:g} minutes"
    height, width = choose(view, most)
    bound = "at most the" if height * width < 1.2 * most**2 else "the least there is, not the"
    info(
        f"image_size=[{height},{width}] by the sizes of the objects and of the images; {bound} "
        f"{most} x {most} pixels {why}"
    )
    return [height, width]
