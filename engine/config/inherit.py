"""A checkpoint's configuration, changed by the keys that the user set. No torch here."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from engine.config.check import check_values
from engine.config.renamed import new_key
from engine.config.schema import TrainConfig
from engine.errors import UserError, did_you_mean


def inherit(saved: dict[str, Any], cfg: DictConfig) -> DictConfig:
    """The checkpoint's configuration changed by the keys that the user set.

    A node that names a class replaces the saved one; any other changes single keys of it.

    Raises:
        UserError: a key that the saved configuration does not have, or a value out of its range.
    """
    merged: Any = OmegaConf.merge(OmegaConf.structured(TrainConfig), saved)
    if not (cfg.get("resume") and cfg.device == "auto"):  # a resumed run keeps its own
        merged.device = cfg.device
    for key in ("profile", "report"):
        if cfg.get(key) is not None:
            merged[key] = cfg[key]
    names = ("trainer", "loader", "head", "dataset", "metric", "tracker")
    for name in (name for name in names if name in cfg):
        if "_target_" in cfg[name]:
            merged[name] = cfg[name]
        else:
            _change(merged[name], cfg[name], name)
    check_values(merged)
    return merged


def _change(saved: DictConfig, change: DictConfig, name: str) -> None:
    for key, value in change.items():
        if key not in saved:
            if now := new_key(str(key), [str(k) for k in saved]):
                raise UserError(f"{name}.{key}: this key is called {name}.{now} now")
            hint = did_you_mean(str(key), map(str, saved))
            raise UserError(f"{name}.{key}: the checkpoint's {name} has no such key{hint}")
        inner = isinstance(value, DictConfig) and "_target_" not in value
        if inner and isinstance(saved[key], DictConfig):
            _change(saved[key], value, f"{name}.{key}")
        else:
            saved[key] = value
