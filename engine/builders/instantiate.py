"""Checks nodes of the configuration against the constructors they name, and builds parts."""

import importlib
import inspect
import typing
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from engine.builders import conformance
from engine.config.optimizer_ranges import RANGES, is_optimizer
from engine.config.ranges import check_value
from engine.config.schema import plain_value
from engine.errors import UserError, did_you_mean
from engine.protocols import Fitted

OF_HYDRA: dict[Any, Any] = {  # the keys of a node that Hydra reads, not the constructor
    "_target_": str,
    "_partial_": bool,
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
    "_args_": list[Any],
}


def check(node: DictConfig, name: str, given: Sequence[str] = (), fits: bool = False) -> None:
    """Check a node, and every node inside it, against the constructor it names.

    Args:
        node: has `_target_`; its other keys become keyword arguments.
        name: the node's key in the configuration.
        given: arguments that the engine adds.
        fits: whether keys of a head may still be `auto`, see `engine.builders.fit`.

    Raises:
        UserError: no such class, a class that lacks what a part at this key needs, or an argument
            that is unknown, missing, of another type or out of range.
    """
    if not isinstance(node, DictConfig) or not node.get("_target_"):
        raise UserError(f"{name}: names no class (_target_); pick an option with {name}=")
    for key in (str(k) for k in node if k in OF_HYDRA):
        check_value(plain_value(node[key]), OF_HYDRA[key], f"{name}.{key}")
    try:
        target = hydra.utils.get_object(node["_target_"])
    except Exception as error:
        raise UserError(f"{name}._target_: {_not_imported(node['_target_'], error)}") from error
    params = _parameters(target, f"{name}._target_={node['_target_']}")
    types = hints(target)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in params.values())
    for key in (str(k) for k in node if k not in OF_HYDRA):
        if OmegaConf.is_missing(node, key):
            raise UserError(f"{name}.{key} is needed: set {name}.{key}=...")
        if key in given:
            raise UserError(f"{name}.{key}: the engine sets it; leave it out")
        if key not in params and not takes_any:
            raise UserError(
                f"{name}.{key}: {target.__name__} takes no such argument{did_you_mean(key, params)}"
            )
        if isinstance(node[key], DictConfig) and "_target_" in node[key]:
            check(node[key], f"{name}.{key}")
        elif node[key] == "auto" and key in Fitted.fits.of(target):
            if not fits:
                raise UserError(
                    f"{name}.{key}=auto: train.py fits it to the training boxes; set it here, or "
                    "take the checkpoint of a run"
                )
        else:
            check_value(plain_value(node[key]), types.get(key, Any), f"{name}.{key}")
    needed = {k for k, p in params.items() if p.default is p.empty and p.kind is p.KEYWORD_ONLY}
    if lacking := needed - set(map(str, node)) - set(given):
        raise UserError(f"{name}: {target.__name__} also needs {', '.join(sorted(lacking))}")
    conformance.check_class(target, name)


def _parameters(target: Any, where: str) -> Mapping[str, inspect.Parameter]:
    """What a constructor takes; UserError if it is none, or does not say."""
    if not inspect.isclass(target) and not inspect.isroutine(target):
        raise UserError(f"{where}: expected a class, got {type(target).__name__}")
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        raise UserError(
            f"{where}: it does not say what its constructor takes; expected a class in Python"
        ) from None


def hints(target: Any) -> dict[str, Any]:
    """The annotations of what a constructor takes, with the ranges of its numbers."""
    try:
        make = target.__init__ if inspect.isclass(target) else target
        found = typing.get_type_hints(make, include_extras=True)
    except (NameError, TypeError):  # annotations that exist for type checkers only, or none
        found = {}
    if inspect.isclass(target) and is_optimizer(target):
        return {**found, **RANGES}
    return found


def _not_imported(target: Any, error: Exception) -> str:
    """Why a class cannot be imported, in one line."""
    package = str(target).partition(".")[0]
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as missing:
        if missing.name == package:
            return (
                f"no package '{package}' for {target}; put the folder that holds it in PYTHONPATH: "
                f"PYTHONPATH=FOLDER python train.py ..."
            )
    except Exception:  # its own error says more
        pass
    reason = " ".join(str(error.__cause__ or error).split())
    return f"cannot import {target} ({reason})"


def part(node: DictConfig, name: str, **given: Any) -> Any:
    """Check a node, build its part and check that; of `given` it gets what its constructor names.

    Raises:
        UserError: as `check`, by the constructor, or the part lacks what its protocol requires.
    """
    check(node, name, tuple(given))
    target = hydra.utils.get_object(node["_target_"])
    params = inspect.signature(target).parameters
    named = {k: v for k, v in given.items() if k in params}
    if (classes := named.get("num_classes")) is not None:
        check_value(classes, hints(target).get("num_classes", Any), f"{name}.num_classes")
    try:
        if named:  # not by Hydra, which would interpolate strings: the names of classes are data
            make = hydra.utils.instantiate(node, _convert_="all", _partial_=True)
            made = _call(make, named)
        else:
            made = hydra.utils.instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise
    conformance.check_object(made, name)
    return made


def _call(make: partial[Any], named: dict[str, Any]) -> Any:
    """Call a constructor; its errors are those that Hydra's own call raises."""
    try:
        return make(**named)
    except Exception as error:
        target = make.func
        raise InstantiationException(f"Error in call to {target.__name__}: {error!r}") from error
