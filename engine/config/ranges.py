"""The ranges of the engine's own keys. No import of torch here: see `engine.cli`."""

import re
from dataclasses import fields
from math import inf
from typing import Any

from omegaconf import DictConfig, OmegaConf

from engine.config.schema import TrainConfig
from engine.errors import UserError, did_you_mean

MINIMUM = {  # of integers
    "seed": 0,
    "trainer.epochs": 1,
    "trainer.accumulate": 1,
    "trainer.eval_every": 1,
    "trainer.max_skipped": 1,
    "loader.batch_size": 1,
    "loader.workers": 0,
    "loader.prefetch": 1,
    "loader.cache_mb": 0,
    "loader.sizes_every": 1,
}


def check_ranges(cfg: DictConfig) -> None:
    """Refuse values of the engine's own keys that are out of range, and unknown keys.

    Raises:
        UserError: naming the key.
    """
    for key in ("trainer.l1", "trainer.l2"):
        if (value := OmegaConf.select(cfg, key)) < 0:
            raise UserError(f"{key}={value}: expected 0 or more")
    for key, minimum in MINIMUM.items():
        if (value := OmegaConf.select(cfg, key)) < minimum:
            raise UserError(f"{key}={value}: expected at least {minimum}")
    for key in ("patience", "overfit", "limit", "histograms"):
        if (value := cfg.trainer[key]) is not None and value < 1:
            raise UserError(f"trainer.{key}={value}: expected at least 1, or null")
    sizes = cfg.loader.sizes
    if sizes is not None and not (len(sizes) and all(s >= 32 and s % 32 == 0 for s in sizes)):
        raise UserError(f"loader.sizes={sizes}: expected sides, multiples of 32 pixels, or null")
    save_interval(cfg.trainer.save_every)
    if cfg.trainer.minutes is not None and not cfg.trainer.minutes > 0:
        raise UserError(f"trainer.minutes={cfg.trainer.minutes}: expected more than 0, or null")
    if cfg.trainer.ema is not None and not 0 < cfg.trainer.ema < 1:
        raise UserError(f"trainer.ema={cfg.trainer.ema}: expected a decay between 0 and 1, or null")
    for key in ("mean", "std"):
        if (value := cfg.preprocessing[key]) is not None and len(value) != 3:
            raise UserError(f"preprocessing.{key}={value}: expected three numbers, one a channel")
    if cfg.preprocessing.colour not in (None, "RGB", "BGR"):
        raise UserError(f"preprocessing.colour={cfg.preprocessing.colour}: expected RGB or BGR")
    known = [f.name for f in fields(OmegaConf.get_type(cfg) or TrainConfig)]
    for key in (str(k) for k in cfg if k not in known):
        raise UserError(f"{key}: no such key{did_you_mean(key, known)}")


def save_interval(value: Any) -> tuple[float, float]:
    """Return `trainer.save_every` as (steps, seconds); the one that is not given is inf.

    Raises:
        UserError: neither a number of steps nor of minutes.
    """
    if value is None:
        return inf, inf
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?) ?m(?:in)?", str(value))
    if not match or not float(match[1] or match[2]):
        raise UserError(f"trainer.save_every={value}: expected steps (500) or minutes (10m)")
    return (float(match[1]), inf) if match[1] else (inf, 60 * float(match[2]))
