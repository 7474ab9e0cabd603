"""Whether a part has what its protocol requires, each of the right kind.

`check_class` runs before anything is built and refuses what a class surely lacks; `check_object`
runs on the object that its constructor made, and sees all.
"""

import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence, Set
from functools import cache
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin

from engine.errors import UserError
from engine.protocols import FIELDS, OutputFields


class Part(NamedTuple):
    """What the engine reads of a kind of part; torch loads with the protocols of a network's."""

    name: str  # of its protocol; what is optional has "Options" behind
    module: str = "engine.protocols"
    is_module: bool = False

    @property
    def protocol(self) -> type:
        """What is required."""
        return getattr(importlib.import_module(self.module), self.name)

    @property
    def options(self) -> Any:
        """What is optional."""
        return getattr(importlib.import_module(self.module), f"{self.name}Options", object)


NETWORK = "engine.network_protocols"
PARTS = {  # by config key
    "backbone": Part("Backbone", NETWORK, is_module=True),
    "head": Part("Head", NETWORK, is_module=True),
    "head.coder": Part("Coder", NETWORK),
    "loss": Part("Loss", NETWORK),
    "metric": Part("Metric"),
    "dataset": Part("Dataset"),
    "schedule": Part("Schedule"),
    "clip": Part("Clip", NETWORK),
    "finetune": Part("Finetune", NETWORK),
    "augment": Part("Augment"),
    "tracker": Part("Tracker"),
}
ABSENT = object()


def check_class(target: Any, key: str) -> None:
    """Refuse a class whose objects cannot have what the part at this config key needs.

    Raises:
        UserError: in one line, with the key, the class and all that it lacks.
    """
    if key not in PARTS:
        return
    on_class = _on_class(key)
    if not inspect.isclass(target):
        if on_class:
            raise UserError(
                f"{key}: {_name(target)} is not a class, of which {', '.join(on_class)} is read"
                f"{_see(key)}"
            )
        return
    _check_module(target, key)
    is_free = key == "head" and PARTS[key].options.output_fields.of(target)
    needed_now = set() if is_free else set(on_class)
    lacking = [
        name
        for name in required(key)
        if not _has(target, name, key) and (name in needed_now or not _may_set(target, name))
    ]
    _refuse_lacking(target, key, lacking)
    _check_kinds(target, target, key, on_class)


def check_object(made: Any, key: str) -> None:
    """Refuse a part that lacks what its config key needs, or has it of a wrong kind.

    Raises:
        UserError: in one line, with the key, the class and what is wrong.
    """
    if key not in PARTS:
        return
    target = _target(made)
    if inspect.isclass(target):
        _check_module(target, key)
    lacking = [n for n in required(key) if not (_has(target, n, key) or _sets(made, n, key))]
    _refuse_lacking(target, key, lacking)
    _check_kinds(made, target, key, required(key) | optional(key))
    if key == "backbone" and len(made.channels) != len(made.strides):
        raise UserError(
            f"{key}: {_name(target)} has {len(made.channels)} channels and {len(made.strides)} "
            f"strides, expected one of each a map{_see(key)}"
        )


@cache
def required(key: str) -> dict[str, Any]:
    """The attributes and methods that a part must have, with their types."""
    protocol = PARTS[key].protocol
    methods = (name for name, member in vars(protocol).items() if inspect.isfunction(member))
    special = ("__call__", "__len__")
    found = {n: Callable for n in methods if n in special or not n.startswith("_")}
    properties = {n: Any for n, member in vars(protocol).items() if isinstance(member, property)}
    return typing.get_type_hints(protocol) | properties | found


@cache
def optional(key: str) -> dict[str, Any]:
    """The attributes that a part may have, with their types."""
    hints = typing.get_type_hints(PARTS[key].options)
    return {name: get_args(hint)[0] for name, hint in hints.items()}


def _target(made: Any) -> Any:
    return made if inspect.isroutine(made) else type(made)


def _on_class(key: str) -> dict[str, Any]:
    """What is read of the class, before there is an object."""
    return {n: hint for n, hint in required(key).items() if get_origin(hint) is ClassVar}


def _has(target: Any, name: str, key: str) -> bool:
    """Whether a class has an attribute, other than by inheriting from the protocol."""
    if name == "__call__" and _is_module(target):  # which calls `forward`
        return target.forward is not _module_class().forward
    bases: tuple[Any, ...] = (target if inspect.isclass(target) else type(target)).__mro__
    return any(name in vars(base) for base in bases if base is not PARTS[key].protocol)


def _sets(made: Any, name: str, key: str) -> bool:
    """Whether an object has an attribute that its class lacks; `x()` and `len(x)` ask the class."""
    if name.startswith("__"):
        return False
    stub = vars(PARTS[key].protocol).get(name, ABSENT)
    value = getattr(made, name, ABSENT)
    return value is not ABSENT and getattr(value, "__func__", value) is not stub


@cache
def _may_set(target: type, name: str) -> bool:
    """Whether the code of a class could give an attribute to its objects; True if in doubt."""
    if name.startswith("__"):
        return False
    ways = re.compile(rf"\b({name}|setattr|vars|__dict__|__getattr__|__getattribute__)\b")
    try:
        return any(ways.search(inspect.getsource(base)) for base in target.__mro__[:-1])
    except (OSError, TypeError):  # a class without source: built in, or typed at a prompt
        return True


def _is_module(target: Any) -> bool:
    return inspect.isclass(target) and issubclass(target, _module_class())


def _module_class() -> Any:
    from torch import nn  # for parts of a network alone

    return nn.Module


def _check_module(target: type, key: str) -> None:
    if PARTS[key].is_module and not _is_module(target):
        raise UserError(
            f"{key}: {_name(target)} is not a torch.nn.Module, whose parameters train{_see(key)}"
        )


def _refuse_lacking(target: Any, key: str, lacking: Sequence[str]) -> None:
    names = ["forward" if name == "__call__" and _is_module(target) else name for name in lacking]
    if names:
        raise UserError(f"{key}: {_name(target)} lacks {', '.join(names)}{_see(key)}")


def _check_kinds(owner: Any, target: Any, key: str, hints: dict[str, Any]) -> None:
    for name, hint in hints.items():
        value = getattr(owner, name, ABSENT)
        if value is not ABSENT and not is_of(value, hint):
            raise UserError(
                f"{key}: {_name(target)}.{name} is {_short(value)}, expected {_expected(hint)}"
                f"{_see(key)}"
            )


def is_of(value: Any, hint: Any) -> bool:
    """Whether an attribute is of its annotated type."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if hint == OutputFields:
        return isinstance(value, Set) and value <= FIELDS
    if origin in (ClassVar, Union, types.UnionType):
        return any(is_of(value, option) for option in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if Callable in (hint, origin):
        return callable(value)
    if origin in (list, Sequence):
        fits = isinstance(value, origin) and not isinstance(value, str)
        return fits and all(is_of(item, inner[0]) for item in value)
    if hint in (int, float):
        number = Integral if hint is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _expected(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if hint == OutputFields:
        return f"a set of {', '.join(sorted(FIELDS))}"
    if origin in (ClassVar, Union, types.UnionType):
        return " or ".join(map(_expected, inner))
    if origin is Literal:
        return ", ".join(inner[:-1]) + f" or {inner[-1]}"
    if Callable in (hint, origin):
        return "a method"
    if origin in (list, Sequence):
        return f"a {origin.__name__.lower()} of {_expected(inner[0])}"
    return {type(None): "None", None: "None"}.get(hint) or (origin or hint).__name__


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]}..."


def _name(target: Any) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def _see(key: str) -> str:
    return f"; see {PARTS[key].name} in {PARTS[key].module.replace('.', '/')}.py"
