"""What a part costs beside its peers: python -m engine.bench part=loss, data, step, keys or index.

Peers run in turn, in one process and on one thread, so that a busy machine slows all of them alike:
trust the ratios more than the milliseconds. A table, then the same numbers as JSON, in one line.
"""

import importlib
import inspect
import json
import os
from dataclasses import asdict
from typing import Any

from engine.cli import command
from engine.console import format_table
from engine.errors import UserError, did_you_mean

LEAST = ("batch", "slots", "steps", "repeats", "images", "side")  # whole numbers from 1 on


@command("bench")
def main(cfg: Any) -> None:
    """Checked configuration in, a table and a line of JSON on standard output."""
    _check(cfg)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler counts memory, in silence
    measure = importlib.import_module(cfg.parts[cfg.part]).measure  # torch loads only now
    asked = _asked(cfg, list(inspect.signature(measure).parameters))
    found = measure(**asked)
    print(format_table(found))
    print(json.dumps({"part": cfg.part, **asked, "rows": found}))


def _asked(cfg: Any, known: list[str]) -> dict[str, Any]:
    """The keys that the part knows; one that it does not know must stay at its default."""
    from engine.config.schema import BenchConfig, plain

    asked, default = plain(cfg), asdict(BenchConfig())
    for key in asked.keys() - {"part", "parts", *known}:
        if asked[key] != default[key]:
            raise UserError(f"{key}: part={cfg.part} has no such key; it has {', '.join(known)}")
    return {key: asked[key] for key in known}


def _check(cfg: Any) -> None:
    if cfg.part not in cfg.parts:
        hint = did_you_mean(cfg.part, list(cfg.parts))
        raise UserError(f"part={cfg.part}: expected {' or '.join(cfg.parts)}{hint}")
    for key in LEAST:
        if cfg[key] is not None and cfg[key] < 1:
            raise UserError(f"{key}={cfg[key]}: expected at least 1")
    if not cfg.objects or min(cfg.objects) < 0:
        raise UserError(f"objects={list(cfg.objects)}: expected numbers an image, like [1,20]")


if __name__ == "__main__":
    main()
