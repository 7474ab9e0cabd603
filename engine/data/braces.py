"""Names with braces, as shells and WebDataset have them: train-{000..099}.tar, {a,b}.tar."""

import re
from collections.abc import Iterator

from engine.errors import UserError

MOST = 1_000_000  # names of a pattern
BRACE = re.compile(r"\{([^{}]*)\}")
BOUNDS = re.compile(r"(\d+)\.\.(\d+)")


def expand(pattern: str) -> list[str]:
    """Every name that a pattern stands for, in order; a name without braces is itself.

    {000..099} counts with as many digits as the bounds have, {a,b} lists.

    Raises:
        UserError: a brace that is neither, or whose bounds are the wrong way round.
    """
    found = BRACE.search(pattern)
    if found is None:
        if "{" in pattern or "}" in pattern:
            raise _wrong(pattern, pattern, "a brace without its other half")
        return [pattern]
    head, tail = pattern[: found.start()], expand(pattern[found.end() :])
    values = list(_values(found[1], pattern))
    if len(values) * len(tail) > MOST:
        raise _wrong(pattern, found[0], f"more than {MOST} names")
    return [head + value + rest for value in values for rest in tail]


def _values(inside: str, pattern: str) -> Iterator[str]:
    bounds = BOUNDS.fullmatch(inside)
    if bounds is None:
        if "," not in inside:
            raise _wrong(pattern, f"{{{inside}}}", "no two whole numbers with .. between them")
        yield from inside.split(",")
        return
    first, last = bounds.groups()
    if int(first) > int(last):
        raise _wrong(pattern, f"{{{inside}}}", f"{first} is above {last}")
    if int(last) - int(first) >= MOST:
        raise _wrong(pattern, f"{{{inside}}}", f"more than {MOST} names")
    if len(first) != len(last) and first.startswith("0") and first != "0":
        raise _wrong(pattern, f"{{{inside}}}", f"{first} and {last} differ in their digits")
    digits = len(first)
    yield from (f"{number:0{digits}d}" for number in range(int(first), int(last) + 1))


def _wrong(pattern: str, brace: str, why: str) -> UserError:
    return UserError(
        f"{pattern}: {brace} has wrong bounds: {why}; expected such as {{000..099}} or {{a,b}}"
    )
