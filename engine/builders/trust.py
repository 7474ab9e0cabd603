"""What a checkpoint's configuration may build: the classes that this program's YAML files name.

A checkpoint is data from a stranger. Its configuration was resolved when it was saved, so that an
interpolation in it was put there by hand. Nothing of it is built before `refuse_foreign` has seen
it together with the keys that the user set.
"""

import inspect
import re
import reprlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import hydra.utils
import yaml
from omegaconf import DictConfig, OmegaConf

from engine.config.schema import CONFIGS, plain_value
from engine.errors import UserError
from engine.weights.entries import is_ids, is_names
from engine.weights.tensors import LONGEST

SPECIAL = ("_args_", "_partial_", "_recursive_", "_convert_")  # what else Hydra reads in a node
OURS = ("onelook", "engine", "classify", "detect")
PACKAGE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def refuse_interpolations(config: Any, path: str) -> None:
    """Refuse a saved configuration with a string that OmegaConf would make something else of.

    Raises:
        UserError: a value or a name holds `${`; the message has its key.
    """
    for key, text in _interpolations(config):
        raise UserError(
            f"{path}: its configuration has an interpolation at {key[:200] or 'its top'}, "
            f"{text[:60]!r}; expected plain values, as train.py saves them: somebody changed "
            "this file"
        )


def check_saveable(config: Any, classes: list[str], ids: Any = None) -> None:
    """Refuse to train with a configuration or classes whose checkpoints could not be read.

    Args:
        config: of the run.
        classes: the names of the dataset's.
        ids: what predictions files call them; None: counted from 1.

    Raises:
        UserError: a value holds `${` as plain text; classes of one name, or without a name; ids
            that are no whole numbers, or repeated.
    """
    if not is_ids(ids):
        raise UserError("dataset: to train, the ids of its categories must be whole numbers, all "
                        f"different; got {reprlib.repr(ids)}")  # fmt: skip
    if not is_names(classes):
        raise UserError(f"dataset: classes need names, all different, of 1 to {LONGEST} letters; "
                        f"got {reprlib.repr(classes)}")  # fmt: skip
    for key, text in _interpolations(config):
        raise UserError(f"{key}={text[:200]}: got ${{ as plain text, which a checkpoint cannot "
                        "keep: rename what it names")  # fmt: skip


def _interpolations(config: Any) -> Iterator[tuple[str, str]]:
    """The strings that OmegaConf would resolve, with their keys."""
    return ((key, text) for key, text in _texts(config) if "${" in text)


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a configuration, names of keys too, with its key."""
    if isinstance(node, str):
        yield key, node
    items = node.items() if isinstance(node, Mapping) else ()
    for name, value in enumerate(node) if isinstance(node, list | tuple) else items:
        if isinstance(name, str):
            yield key, name
        yield from _texts(value, f"{key}.{name}" if key else str(name))


def packages(trust: Any) -> bool | list[str]:
    """The packages that `trust` names; True allows any code.

    Raises:
        UserError: neither true, false nor a list of packages.
    """
    value = plain_value(trust)
    if value is None or isinstance(value, bool):
        return bool(value)
    names = value if isinstance(value, list) else [value]
    fit = all(isinstance(name, str) and PACKAGE.fullmatch(name) for name in names)
    if not fit or not isinstance(value, list):
        hint = f": trust=[{','.join(map(str, names))}]" if fit else ""
        raise UserError(
            f"trust={str(value)[:200]}: expected a list of packages, as trust=[my_parts], or true "
            f"for code of any package, or false{hint}"
        )
    if ours := [name for name in names if name.partition(".")[0] in OURS]:
        raise UserError(
            f"trust=[{ours[0]}]: what a run saves of this program needs no trust, and the rest of "
            "it can write files; name your own package: trust=[my_parts]"
        )
    return [str(name) for name in names]


def refuse_foreign(merged: DictConfig, user: DictConfig, trust: Any, path: str) -> None:
    """Refuse a configuration that builds what neither this program's YAML files nor the user named.

    Args:
        merged: the checkpoint's configuration, changed by the user's keys.
        user: the user's keys alone; what they replaced may be any class.
        trust: the packages whose classes a checkpoint may name, or True for any.
        path: the checkpoint, for the message.

    Raises:
        UserError: with the class and its key.
    """
    allowed = packages(trust)
    if allowed is True:
        return
    for group, node in _plain(merged).items():
        _check(node, _plain(user).get(group), str(group), allowed or [], path)


def fetch_nothing(merged: DictConfig, user: DictConfig) -> None:
    """Turn a saved `dataset.download` off unless the user set it: it writes where the file says."""
    node, own = merged.get("dataset"), user.get("dataset") or {}
    asked = "download" in own or "_target_" in own
    if OmegaConf.is_dict(node) and "download" in node and not asked:
        node.download = False


def _plain(cfg: DictConfig) -> dict[Any, Any]:
    return OmegaConf.to_container(cfg, resolve=False)  # type: ignore[return-value]


def _check(node: Any, user: Any, key: str, trusted: list[str], path: str) -> None:
    """Check a node and those inside it; `user` is what the user set at the same key, or None."""
    if user is not None and (not isinstance(user, dict) or "_target_" in user):
        return  # the user's own
    if isinstance(node, list):
        for i, value in enumerate(node):
            _check(value, None, f"{key}.{i}", trusted, path)
    if not isinstance(node, dict):
        return
    _check_node(node, key, trusted, path)
    for name, value in node.items():
        _check(value, (user or {}).get(name), f"{key}.{name}", trusted, path)


def _check_node(node: dict[Any, Any], key: str, trusted: list[str], path: str) -> None:
    target, special = node.get("_target_"), {k: node[k] for k in SPECIAL if k in node}
    group = key.partition(".")[0]
    known = named_in(group).get(target, []) if isinstance(target, str) else [{}]
    if isinstance(target, str) and not known:
        _check_trusted(target, key, trusted, path)
    elif "_target_" in node and not isinstance(target, str):
        raise UserError(f"{path}: its configuration calls {target!r:.60} at {key}: no class")
    elif special not in known:
        odd = next(k for k in SPECIAL if special.get(k, SPECIAL) != known[0].get(k, SPECIAL))
        raise UserError(
            f"{path}: its configuration has {key}.{odd}, which "
            f"{f'is not as configs/{group} has it' if target else 'belongs to no class'}"
        )


def _check_trusted(target: str, key: str, trusted: list[str], path: str) -> None:
    package = target.partition(".")[0]
    if not _is_in(target, trusted):
        # a class of ours in another place was put there by hand: no run writes one
        advice = "train.py wrote no such file" if package in OURS else (
            f"if you trust whoever wrote it, allow its package: trust=[{package[:80]}] (or all "
            "code: trust=true)"
        )  # fmt: skip
        raise UserError(
            f"{path}: its configuration calls {target[:200]} at {key[:200]}, which no file of "
            f"configs/{key.partition('.')[0]} names; {advice}"
        )
    try:
        found = hydra.utils.get_object(target)
    except Exception as error:  # the package's own code runs here: no fixed set
        reason = str(error).split("\n")[0][:200]
        raise UserError(f"{path}: {key}: cannot import {target} ({reason})") from error
    # my_parts.os.system starts with the name of the package too: where it is defined decides
    module = inspect.getmodule(found)
    home = module.__name__ if module else type(found).__name__
    if not _is_in(f"{home}.", trusted):
        raise UserError(
            f"{path}: its configuration calls {target} at {key}, which is defined elsewhere, in "
            f"{home}: trust=true allows that"
        )


def _is_in(name: str, trusted: list[str]) -> bool:
    return any(name.startswith(f"{package}.") for package in trusted)


@cache
def named_in(group: str) -> dict[str, list[dict[str, Any]]]:
    """The classes that a group's YAML files name, each with Hydra's special keys beside it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((CONFIGS / group).rglob("*.yaml")):
        _collect(yaml.safe_load(file.read_text(encoding="utf-8")), found)
    return found


def _collect(node: Any, found: dict[str, list[dict[str, Any]]]) -> None:
    if isinstance(node, dict):
        if "_target_" in node:
            special = {k: node[k] for k in SPECIAL if k in node}
            found.setdefault(node["_target_"], []).append(special)
        for value in node.values():
            _collect(value, found)
