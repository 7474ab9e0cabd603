"""Checks the engine's own keys against the schema. No import of torch here: see `engine.cli`."""

import re
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, fields, is_dataclass
from math import inf
from typing import Any, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from engine.config.keys import keys
from engine.config.meant import meant
from engine.config.ranges import check_value
from engine.config.schema import TrainConfig, plain_value
from engine.errors import UserError


def check_resolves(cfg: DictConfig) -> None:
    """Refuse a value that refers to a key or variable that is not there, or to itself.

    Raises:
        UserError: naming the key.
    """
    try:
        OmegaConf.to_container(cfg, resolve=True)
    except InterpolationResolutionError as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{error.full_key}: {reason}; quote a $ that is text: \\$") from error
    except RecursionError as error:
        raise UserError("values refer to each other in a circle, or are nested too deep") from error


def check_values(cfg: DictConfig, prefix: str = "") -> None:
    """Refuse a value of a configuration's own keys that is out of the range of its annotation.

    Raises:
        UserError: naming the key.
    """
    schema = OmegaConf.get_type(cfg)
    if not is_dataclass(schema):
        return
    hints = get_type_hints(schema, include_extras=True)
    parts = [field.name for field in fields(schema) if _is_part(field, hints[field.name])]
    for key, hint in hints.items():
        if OmegaConf.is_missing(cfg, key):
            continue
        value = cfg[key]
        if (is_dataclass(hint) or key in parts) and not isinstance(value, DictConfig):
            raise UserError(f"{prefix}{key}={value}: {has_keys(f'{prefix}{key}', hint)}")
        if is_dataclass(hint):
            check_values(value, f"{prefix}{key}.")
        else:
            check_value(plain_value(value), hint, f"{prefix}{key}")


def _is_part(field: Field[Any], hint: Any) -> bool:
    """Whether a key of any type is a node: a part, or what is changed of a checkpoint's."""
    is_node = field.default == MISSING or field.default_factory is not NO_DEFAULT
    return hint is Any and is_node


def has_keys(key: str, hint: Any) -> str:
    """What a node takes in place of a value: its keys, by name where the schema has them."""
    names = get_type_hints(hint) if is_dataclass(hint) else ["NAME=VALUE"]
    return f"it has keys of its own: {', '.join(f'{key}.{name}' for name in names)}"


def check_ranges(cfg: DictConfig) -> None:
    """Refuse values of a run's own keys that are out of range, and unknown keys.

    Raises:
        UserError: naming the key.
    """
    check_values(cfg)
    sizes = cfg.loader.sizes
    if sizes is not None and any(side % 32 for side in sizes):
        raise UserError(f"loader.sizes={sizes}: expected sides, multiples of 32 pixels, or null")
    save_interval(cfg.trainer.save_every)
    if cfg.trainer.epochs is None and cfg.trainer.minutes is None:
        raise UserError("trainer.epochs=null: the run has no end; set trainer.minutes or epochs")
    if cfg.preprocessing.colour not in (None, "RGB", "BGR"):
        raise UserError(f"preprocessing.colour={cfg.preprocessing.colour}: expected RGB or BGR")
    known = [f.name for f in fields(OmegaConf.get_type(cfg) or TrainConfig)]
    for key in (str(k) for k in cfg if k not in known):
        raise UserError(
            f"{key}: no such key{meant(key, str(cfg[key]), [k for k in keys(cfg) if k != key])}"
        )


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
