"""What the entries of a checkpoint must be, so that a damaged or made-up one is refused by name."""

import math
import reprlib
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor

from engine.errors import UserError
from engine.weights.tensors import LONGEST, check_dense

NODES = 100_000  # values in a configuration, each counted as often as it is met
DEPTH = 32  # of dicts and lists in a configuration
LARGEST = 2**53  # of a count


def is_count(value: Any) -> bool:
    """Whether it is an integer from 0 on."""
    return type(value) is int and 0 <= value < LARGEST


def is_finite(value: Any) -> bool:
    """Whether it is a number, neither NaN nor infinite."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_score(value: Any) -> bool:
    return is_finite(value) or (type(value) is float and value in (-math.inf, math.inf))


def is_names(value: Any) -> bool:
    """Whether it is a list of different texts, none of them empty or very long."""
    if not isinstance(value, list | tuple) or not value:
        return False
    fit = all(isinstance(name, str) and 0 < len(name) <= LONGEST for name in value)
    return fit and len(set(value)) == len(value)


def is_ids(value: Any) -> bool:
    """Whether it is a list of different integers, or None."""
    if value is None:
        return True
    fit = isinstance(value, list | tuple) and all(type(i) is int for i in value)
    return fit and len(set(value)) == len(value)


def _is_weights(value: Any) -> bool:
    named = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    return named and all(isinstance(tensor, Tensor) for tensor in value.values())


def _is_plain(value: Any) -> bool:
    """Whether it is made of dicts by strings, lists, strings and numbers, and of bounded size."""
    if not isinstance(value, dict):
        return False
    todo, count = [(value, 0)], 0
    while todo:
        node, depth = todo.pop()
        count += 1
        if count > NODES or depth > DEPTH:
            return False
        if isinstance(node, dict):
            if not all(isinstance(key, str) for key in node):
                return False
            node = list(node.values())
        if isinstance(node, list | tuple):
            todo += [(item, depth + 1) for item in node]
        elif not isinstance(node, str | int | float | None):
            return False
    return True


def _is_preprocessing(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    size, colour = value.get("size"), value.get("colour", "RGB")
    sides = isinstance(size, list | tuple) and len(size) == 2
    triples: Any = (value.get("mean"), value.get("std"))
    return (
        sides
        and all(is_count(side) and side for side in size)  # pyright: ignore[reportOptionalIterable]
        and all(isinstance(t, list | tuple) and len(t) == 3 for t in triples)
        and all(is_finite(number) for triple in triples for number in triple or ())
        and all(number > 0 for number in value["std"])
        and (value.get("resize") is None or (is_finite(value["resize"]) and value["resize"] > 0))
        and value.get("interpolation") in (None, "bilinear", "bicubic")
        and colour in ("RGB", "BGR")
    )


def _is_progress(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= {"batches", "steps", "losses", "norms"}:
        return False
    sums = [value.get(key, {}) for key in ("losses", "norms")]
    return all(is_count(value.get(key, 0)) for key in ("batches", "steps")) and all(
        _is_weights(held)
        and (not held or "count" in held)
        and all(t.ndim == 0 and t.is_floating_point() for t in held.values())
        for held in sums
    )


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict)
        and "epoch" in row
        and all(isinstance(key, str) for key in row)
        and all(type(number) in (int, float) for number in row.values())
        for row in value
    )


def _is_optimizer(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() >= {"state", "param_groups"}:
        return False
    state, groups = value["state"], value["param_groups"]
    return (
        isinstance(state, dict)
        and all(is_count(key) and isinstance(held, dict) for key, held in state.items())
        and all(isinstance(key, str) for held in state.values() for key in held)
        and isinstance(groups, list)
        and all(isinstance(g, dict) and isinstance(g.get("params"), list) for g in groups)
    )


def _is_guard(value: Any) -> bool:
    return isinstance(value, dict) and is_count(value.get("row"))


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _is_choices(value: Any) -> bool:
    return _is_dict(value) and all(isinstance(v, str | None) for v in value.values())


COUNT = "a count from 0 on"
ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "config": (_is_plain, "a configuration of dicts, lists, strings and numbers"),
    "classes": (is_names, f"class names, all different, of 1 to {LONGEST} letters"),
    "categories": (is_ids, "an integer for each class, all different, or None"),
    "model": (_is_weights, "tensors by name"),
    "ema": (lambda v: v is None or (_is_weights(v) and bool(v)), "tensors by name, or None"),
    "epoch": (is_count, COUNT),
    "processes": (lambda v: is_count(v) and v > 0, "a count from 1 on"),
    "device": (lambda v: isinstance(v, str), "the name of a device"),
    "choices": (_is_choices, "the options of groups by name"),
    "preprocessing": (_is_preprocessing, "size, mean, std, resize, interpolation and colour"),
}
RESUMED: dict[str, tuple[Callable[[Any], bool], str]] = {  # what only a resumed run reads
    "ema_updates": (is_count, COUNT),
    "optimizer": (_is_optimizer, "the state of an optimizer"),
    "schedule": (_is_dict, "the state of a schedule"),
    "scaler": (_is_dict, "the state of a gradient scaler"),
    "guard": (_is_guard, "a count from 0 on called row"),
    "step": (is_count, COUNT),
    "seconds": (lambda v: is_finite(v) and v >= 0, "seconds from 0 on"),
    "progress": (_is_progress, "counts of batches and steps, and sums"),
    "best": (_is_score, "a number"),
    "stale": (is_count, COUNT),
    "history": (_is_history, "a list of rows of numbers"),
    "random": (_is_dict, "random states by name"),
}


def check_entries(state: Mapping[str, Any], file: str) -> None:
    """Check what a network is built and filled from; an entry that is not there is not missed.

    Raises:
        UserError: an entry is not what train.py writes there.
    """
    for key, (fits, expected) in ENTRIES.items():
        if key in state and not fits(state[key]):
            raise wrong(file, key, state[key], expected)
    for key in ("model", "ema"):
        check_dense(state.get(key) or {}, f"{file}: {key}")
    ids, classes = state.get("categories"), state["classes"]
    if ids is not None and len(ids) != len(classes):
        raise wrong(file, "categories", ids, f"{len(classes)} ids, one a class")


def check_resumed(state: Mapping[str, Any], file: str) -> None:
    """Check the entries that a run goes on from.

    Raises:
        UserError: one is missing, or not what train.py writes there.
    """
    require(state, {*RESUMED, "model", "ema", "categories"}, file)
    for key, (fits, expected) in RESUMED.items():
        if not fits(state[key]):
            raise wrong(file, key, state[key], expected)
    if len(state["history"]) != state["epoch"]:
        rows = f"{state['epoch']} rows, one an epoch"
        raise wrong(file, "history", f"{len(state['history'])} rows", rows)


def require(state: Mapping[str, Any], keys: Collection[str], file: str) -> None:
    """Refuse a checkpoint without these entries.

    Raises:
        UserError: naming those that are missing; `file` names the checkpoint, here and below.
    """
    if missing := sorted(set(keys) - state.keys()):
        raise UserError(
            f"{file}: a damaged checkpoint: it lacks {', '.join(missing)}; take another one of "
            "this run"
        )


def wrong(file: str, key: str, value: Any, expected: str) -> UserError:
    """The error of an entry that is not what train.py writes there."""
    got = "" if isinstance(value, Tensor) else f" {' '.join(reprlib.repr(value).split())[:80]}"
    return UserError(
        f"{file}: a damaged checkpoint: {key} is {type(value).__name__}{got}, expected {expected}; "
        "take another one of this run"
    )
