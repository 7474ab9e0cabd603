"""Convert checkpoints of older formats to the format of this version."""

from typing import Any

from engine.config import renamed
from engine.console import info

FORMAT = 7
# Until format 6 a run had no part of this kind.
NO_TRACKER = {"tracker": {"_target_": "engine.output.trackers.NoTracker"}}
# Until format 5 no checkpoint held the category ids of its data set: they are not known.
UNKNOWN_CATEGORIES = {"categories": None}
# Until format 4 a checkpoint was written between two epochs only, and held none of these counts.
BETWEEN_EPOCHS = {"progress": {}, "guard": {"row": 0}, "stale": 0}


def migrate(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint in the format of this version; a line is logged where it had an older one."""
    number = state["format"]
    if number == FORMAT:
        return state
    info(f"checkpoint of format {number}, read as {FORMAT}")
    state = _from_fifth(state, number) if number < 6 else state
    if "choices" in state:
        state = {**state, "choices": {"tracker": "none"} | state["choices"]}
    return {**state, "config": NO_TRACKER | state["config"], "format": FORMAT}


def _from_fifth(state: dict[str, Any], number: int) -> dict[str, Any]:
    """Convert a checkpoint of format 5 or older to format 6."""
    names = renamed.table()
    state = _from_first(state) if number == 1 else state
    config = _with_coder(state["config"], names["coder"]) if number < 3 else state["config"]
    state = {**state, **BETWEEN_EPOCHS} if number < 4 else state
    state = UNKNOWN_CATEGORIES | state
    return {**state, "config": _with_defaults(_renamed(config, names), names["defaults"])}


def _with_defaults(config: dict[str, Any], table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The configuration with what its classes did before they had a key for it."""
    return {
        name: {**table.get(str(node.get("_target_")), {}), **node}
        if isinstance(node, dict)
        else node
        for name, node in config.items()
    }


def _renamed(node: Any, table: Any) -> Any:
    """A configuration with today's names of classes and of their keys."""
    if isinstance(node, list | tuple):
        return [_renamed(value, table) for value in node]
    if not isinstance(node, dict):
        return node
    new = {key: _renamed(value, table) for key, value in node.items()}
    if not isinstance(target := new.get("_target_"), str):
        return new
    target = _today(target, table["targets"])
    keys = table["keys"].get(target, {})
    new = {keys.get(key, key): value for key, value in new.items()} | {"_target_": target}
    if nested := new.get(table["flat"].get(target)):
        flat = [row for level in nested for row in level]
        new[table["flat"][target]] = flat if isinstance(flat[0], list) else nested
    return new


def _today(target: str, prefixes: dict[str, str]) -> str:
    old = next((prefix for prefix in prefixes if target.startswith(prefix)), "")
    return prefixes.get(old, "") + target[len(old) :]


def _with_coder(config: dict[str, Any], coder: str) -> dict[str, Any]:
    """The configuration with a box coder: until format 3 SSD's head had its variances."""
    head = dict(config["head"])
    if "variances" in head:
        head["coder"] = {"_target_": coder, "variances": head.pop("variances")}
    return {**config, "head": head}


def _from_first(state: dict[str, Any]) -> dict[str, Any]:
    """Convert a checkpoint of format 1: no fine-tuning, other names of ResNet's layers."""
    stages = {f"backbone.stages.{i}.": f"backbone.layer{i + 1}." for i in range(4)}
    names = {"backbone.stem.0.": "backbone.conv1.", "backbone.stem.1.": "backbone.bn1."} | stages
    weights = {
        key: state[key] and {_today(name, names): tensor for name, tensor in state[key].items()}
        for key in ("model", "ema")
    }
    config = {**state["config"], "finetune": {"_target_": "engine.training.finetune.Finetune"}}
    preprocessing = {**state["preprocessing"], "resize": None, "interpolation": None}
    for key in ("mean", "std"):
        preprocessing[key] = [value / 255 for value in preprocessing[key]]
    preprocessing["colour"] = "RGB"
    return {**state, **weights, "config": config, "preprocessing": preprocessing}
