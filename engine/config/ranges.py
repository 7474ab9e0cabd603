"""Ranges of numbers as annotations, and whether a value from YAML fits an annotation.

Every number of a constructor that a YAML can name, and of the schema, has its range in its
annotation: `flip: Share`. No import of torch here: see `engine.cli`.
"""

import inspect
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin

from engine.errors import UserError

FINITE = sys.float_info.max


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`; a round bracket in `ends` leaves that end out."""

    least: float
    most: float
    ends: Literal["[]", "[)", "(]", "()"] = "[]"

    def __contains__(self, number: Any) -> bool:
        low = number > self.least or (self.ends[0] == "[" and number == self.least)
        return low and (number < self.most or (self.ends[1] == "]" and number == self.most))

    def __str__(self) -> str:
        """In words, as "from 0 to 1" or "above 0, at most 1"."""
        if self.ends == "[]":
            return f"from {self.least:,} to {self.most:,}"
        low = "from" if self.ends[0] == "[" else "above"
        return (
            f"{low} {self.least:,}, {'at most' if self.ends[1] == ']' else 'below'} {self.most:,}"
        )


@dataclass(frozen=True)
class Length:
    """Lists of `least` to `most` items."""

    least: int
    most: int

    def __contains__(self, items: Any) -> bool:
        return self.least <= len(items) <= self.most

    def __str__(self) -> str:
        return f"of {self.most}" if self.least == self.most else f"of {self.least} to {self.most}"


Share = Annotated[float, Range(0, 1)]
PartialShare = Annotated[float, Range(0, 1, "[)")]  # not all
PositiveShare = Annotated[float, Range(0, 1, "(]")]  # some
InnerShare = Annotated[float, Range(0, 1, "()")]  # some, not all
NonNegative = Annotated[float, Range(0, 10**6)]
Positive = Annotated[float, Range(0, 10**6, "(]")]
Factor = Annotated[float, Range(0, 8, "(]")]  # of a network's depth or width
Scale = Annotated[float, Range(0, 1000, "(]")]  # of an anchor, and its ratio of sides
Scales = Annotated[Sequence[Scale], Length(1, 100)]
Index = Annotated[int, Range(0, 1000)]
ZeroOrMore = Annotated[int, Range(0, 10**6)]
Count = Annotated[int, Range(1, 10**6)]
Kept = Annotated[int, Range(1, 100_000)]  # boxes of an image
Channels = Annotated[int, Range(1, 8192)]
Layers = Annotated[int, Range(0, 64)]
Levels = Annotated[int, Range(1, 16)]
Grid = Annotated[int, Range(1, 32)]  # cells a side
Stride = Annotated[int, Range(1, 256)]  # pixels
Side = Annotated[int, Range(32, 4096)]  # pixels of the network's input
Classes = Annotated[int, Range(1, 100_000)]
BoxClasses = Annotated[int, Range(1, 5000)]  # each a score for each of thousands of slots
Seed = Annotated[int, Range(0, 2**32 - 1)]  # what NumPy takes


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from YAML is of an annotated type, within its ranges, and finite."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in (Any, inspect.Parameter.empty) or isinstance(hint, str):
        return True
    if origin is Annotated:
        bounds = [m for m in inner[1:] if isinstance(m, Range | Length)]
        return fits(value, inner[0]) and all(value in bound for bound in bounds)
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and _items_fit(value, hint)
    if hint is float:
        return _is_number(value) and -FINITE <= value <= FINITE
    if hint in (int, str, bool, None, types.NoneType):
        return type(value) is (types.NoneType if hint is None else hint)
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(key, inner[0]) and fits(item, inner[1]) for key, item in value.items()
        )
    if inspect.isclass(hint) and Protocol not in hint.__mro__:
        return isinstance(value, hint)
    return not isinstance(value, str)


def _items_fit(values: Sequence[Any], hint: Any) -> bool:
    inner = get_args(hint)
    if _is_fixed(hint):
        return len(values) == len(inner) and all(map(fits, values, inner))
    return all(fits(value, inner[0]) for value in values)


def _is_fixed(hint: Any) -> bool:
    """Whether a tuple has an annotation for each of its items."""
    return get_origin(hint) is tuple and Ellipsis not in get_args(hint)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


WORDS = {float: "a number", int: "a whole number", str: "text", bool: "true or false",
         types.NoneType: "null", None: "null"}  # fmt: skip


def words(hint: Any) -> str:
    """What an annotation takes, in plain words: "a number from 0 to 1 or null"."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        text = words(inner[0])
        for bound in inner[1:]:
            if isinstance(bound, Length):
                text = text.replace("a list", f"a list {bound}", 1)
            text += f" {bound}" if isinstance(bound, Range) else ""
        return text
    if origin in (Union, types.UnionType):
        return ", or ".join(map(words, inner))
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (list, tuple, Sequence):
        return _list_words(hint)
    known = inspect.isclass(hint) or hint is None
    return WORDS.get(hint, hint.__name__) if known else str(hint)  # type: ignore[union-attr]


def _list_words(hint: Any) -> str:
    inner = [i for i in get_args(hint) if i is not Ellipsis]
    kinds = list(dict.fromkeys(map(words, inner)))
    count = f" of {len(inner)}" if _is_fixed(hint) else ""
    return f"a list{count}, {'each ' + kinds[0] if len(kinds) == 1 else ', then '.join(kinds)}"


def check_value(value: Any, hint: Any, key: str) -> None:
    """Refuse a value of a key that does not fit its annotation.

    Raises:
        UserError: naming the key, and in plain words what it takes.
    """
    if not fits(value, hint):
        plain = _is_number(value) or isinstance(value, list)
        got = "" if plain else f", got {type(value).__name__}"
        raise UserError(f"{key}={value}: expected {words(hint)}{got}")
