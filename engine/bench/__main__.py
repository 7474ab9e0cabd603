"""Times a part beside its peers: python -m engine.bench part=loss, data, step ...

Peers run in turn, in one process and on one thread, so that a busy machine slows all of them alike:
trust the ratios more than the milliseconds. Prints a table, then the same numbers as a line of
JSON.
"""

import json
import os
from collections.abc import Callable
from typing import Any

from engine.cli import command
from engine.config.chosen import chosen
from engine.config.tools import BenchConfig
from engine.console import echo, format_table


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
    return chosen(cfg, key="part", table="parts", function="measure", schema=BenchConfig)


if __name__ == "__main__":
    main()
