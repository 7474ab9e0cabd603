"""Times a part beside its peers: python -m engine.bench part=loss, data, step ...

Peers run in turn, in one process and on one thread, so that a busy machine slows all of them alike:
trust the ratios more than the milliseconds. Prints a table, then the same numbers as a line of
JSON.
"""

import importlib
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from engine.cli import command
from engine.console import echo, format_table
from engine.errors import UserError, did_you_mean


@command("bench")
def main(cfg: Any) -> None:
    """Time the part; print a table and a line of JSON."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences the profiler, which counts memory
    measure, arguments = prepare(cfg)
    rows = measure(**arguments)
    echo(*format_table(rows))
    echo(json.dumps({"part": cfg.part, **arguments, "rows": rows}))


def prepare(cfg: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What measures the part, and its arguments; UserError if there is none, or it lacks a key."""
    _check(cfg)
    module = cfg.parts[cfg.part]
    try:
        measure = importlib.import_module(module).measure  # torch loads only now
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"parts.{cfg.part}={module}: expected a module with a function `measure` ({error})"
        ) from error
    return measure, _arguments(cfg, list(inspect.signature(measure).parameters))


def _arguments(cfg: Any, known: list[str]) -> dict[str, Any]:
    """The values of the part's keys; UserError if a key that it lacks is not at its default."""
    from engine.config.schema import plain
    from engine.config.tools import BenchConfig

    values, default = plain(cfg), asdict(BenchConfig())
    for key in values.keys() - {"part", "parts", *known}:
        if values[key] != default[key]:
            raise UserError(f"{key}: part={cfg.part} has no such key; it has {', '.join(known)}")
    return {key: values[key] for key in known}


def _check(cfg: Any) -> None:
    if cfg.part not in cfg.parts:
        hint = did_you_mean(cfg.part, list(cfg.parts))
        raise UserError(f"part={cfg.part}: expected {' or '.join(cfg.parts)}{hint}")


if __name__ == "__main__":
    main()
