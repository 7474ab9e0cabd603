"""Checks nodes of the configuration against the constructors they name, and builds parts."""

import inspect
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from engine.builders import conformance
from engine.errors import UserError, did_you_mean


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from YAML is of an annotated type; True for types that YAML cannot hold."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in (Any, inspect.Parameter.empty) or isinstance(hint, str):
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if origin in (list, tuple, Sequence):
        each = [i for i in inner if i is not Ellipsis]
        return isinstance(value, list) and all(
            any(fits(item, hint) for hint in each) for item in value
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in (int, str, bool, None, types.NoneType):
        return type(value) is (types.NoneType if hint is None else hint)
    return not isinstance(value, str)


def check(node: DictConfig, name: str, given: Sequence[str] = ()) -> None:
    """Check a node, and every node inside it, against the constructor it names.

    Args:
        node: has `_target_`; its other keys become keyword arguments.
        name: the node's key in the configuration.
        given: arguments that the engine adds.

    Raises:
        UserError: no such class, a class that lacks what a part at this key needs, or an argument
            that is unknown, missing, or of another type.
    """
    if not node.get("_target_"):
        raise UserError(f"{name}: names no class (_target_); pick an option with {name}=")
    try:
        target = hydra.utils.get_object(node["_target_"])
    except Exception as error:
        raise UserError(f"{name}._target_: cannot import {node['_target_']} ({error})") from error
    params = inspect.signature(target).parameters
    hints = _hints(target)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in params.values())
    for key in (str(k) for k in node if not str(k).startswith("_")):
        if OmegaConf.is_missing(node, key):
            raise UserError(f"{name}.{key} is needed: set {name}.{key}=...")
        if key not in params and not takes_any:
            raise UserError(
                f"{name}.{key}: {target.__name__} takes no such argument{did_you_mean(key, params)}"
            )
        if isinstance(node[key], DictConfig) and "_target_" in node[key]:
            check(node[key], f"{name}.{key}")
        else:
            _check_type(node[key], hints.get(key, Any), f"{name}.{key}")
    needed = {k for k, p in params.items() if p.default is p.empty and p.kind is p.KEYWORD_ONLY}
    if lacking := needed - set(map(str, node)) - set(given):
        raise UserError(f"{name}: {target.__name__} also needs {', '.join(sorted(lacking))}")
    conformance.check_class(target, name)


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except NameError:  # annotations that exist for type checkers only
        return {}


def _check_type(value: Any, hint: Any, name: str) -> None:
    value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    if not fits(value, hint):
        expected = hint.__name__ if inspect.isclass(hint) else str(hint)
        raise UserError(f"{name}={value}: expected {expected}, got {type(value).__name__}")


def part(node: DictConfig, name: str, **given: Any) -> Any:
    """Check a node, build its part and check that; of `given` it gets what its constructor names.

    Raises:
        UserError: as `check`, by the constructor, or the part lacks what its protocol requires.
    """
    check(node, name, tuple(given))
    params = inspect.signature(hydra.utils.get_object(node["_target_"])).parameters
    named = {k: v for k, v in given.items() if k in params}
    try:
        made = hydra.utils.instantiate(node, _convert_="all", **named)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise
    conformance.check_object(made, name)
    return made
