"""What there is to choose and to set: groups, options, keys. No import of torch here."""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from engine.config.schema import CONFIGS

NESTED = ("loss/box",)  # groups inside another; other folders in a group only sort its options
PRESETS = ("model", "experiment", "trainer")  # groups whose options set keys of other groups


def keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a composed configuration, of nodes too."""
    for key in node if isinstance(node, DictConfig) and not node._is_none() else ():
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, str(key)):
            yield from keys(node[key], f"{prefix}{key}.")


def groups() -> list[str]:
    """The groups of which the command line chooses an option, such as `loss` and `loss/box`."""
    ours = [p.name for p in CONFIGS.iterdir() if p.is_dir() and p.name != "hydra"]
    return sorted([*ours, *NESTED])


def options(group: str) -> list[str]:
    """The options of a group, those in folders inside it too, without what others include."""
    names = [p.relative_to(CONFIGS).with_suffix("") for p in (CONFIGS / group).rglob("*.yaml")]
    inside = [p for p in NESTED if p != group]
    own = [p for p in names if "_base" not in p.parts and p.parent.as_posix() not in inside]
    return sorted(p.relative_to(group).as_posix() for p in own)


@cache
def own_keys(group: str, option: str) -> frozenset[str]:
    """The dotted keys of an option, from its own YAML and those that it includes."""
    node: Any = OmegaConf.load(CONFIGS / group / f"{option}.yaml")
    found = set()
    for name in node.pop("defaults", []):
        if isinstance(name, str) and name != "_self_":
            base, _, inner = name.partition("@")
            inside = f"{group}.{inner}." if inner else f"{group}."
            found |= {inside + key.partition(".")[2] for key in own_keys(group, base)}
    return frozenset(found.union(f"{group}.{key}" for key in keys(node)))


def options_with(key: str) -> list[str]:
    """The options of the key's group that have it: of `head.anchors` yolo_v2 and yolo_v3."""
    group = key.partition(".")[0]
    if group not in groups() or group in PRESETS:
        return []
    return [option for option in options(group) if key in own_keys(group, option)]


def known(config_name: str, arguments: Iterable[str] = ()) -> tuple[str, ...]:
    """Every key of a configuration with the groups that the command line chooses."""
    return _composed(config_name, _choices(arguments))[0]


def schema_of(config_name: str, arguments: Iterable[str] = ()) -> type:
    """The dataclass of a configuration."""
    return _composed(config_name, _choices(arguments))[1]


def _choices(arguments: Iterable[str]) -> tuple[str, ...]:
    selectors = (*groups(), "hydra.searchpath")
    return tuple(a for a in arguments if a.split("=")[0] in selectors and "," not in a)


@cache
def _composed(config_name: str, choices: tuple[str, ...]) -> tuple[tuple[str, ...], Any]:
    """The keys and the schema, without the choices where one of them is the mistake to explain."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            cfg = hydra.compose(config_name, overrides=list(choices))
        except Exception:
            cfg = hydra.compose(config_name)
    return tuple(keys(cfg)), OmegaConf.get_type(cfg)


def default_choice(config_name: str, group: str) -> str | None:
    """The option of a group without a choice; None for none.

    Raises:
        KeyError: the configuration has no such group.
    """
    node: Any = OmegaConf.load(CONFIGS / f"{config_name}.yaml")
    for item in node.get("defaults", []):
        if isinstance(item, DictConfig):
            for key, option in item.items():
                if str(key).removeprefix("override ") == group:
                    return option
        elif Path(CONFIGS / f"{item}.yaml").is_file():
            try:
                return default_choice(item, group)
            except KeyError:
                continue
    raise KeyError(group)
