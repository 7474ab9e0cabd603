"""Shows an idea of the course in numbers and an image: python -m engine.explain topic=softmax.

Each topic is a module with a function `explain`, which takes the keys that it reads and returns an
`Explanation`. Its table is printed and written as TOPIC.csv, its figure as TOPIC.png.
"""

from collections.abc import Callable
from typing import Any

from engine.cli import command
from engine.config.chosen import chosen
from engine.config.tools import ExplainConfig
from engine.console import echo, format_table


@command("explain")
def main(cfg: Any) -> None:
    """Print the topic's table; write it and its figure to the run folder."""
    explain, arguments = prepare(cfg)

    from engine.output import run_folder

    folder = run_folder.shared(cfg)
    explanation = explain(**arguments)
    explanation.write(folder, cfg.topic)
    echo(*format_table(explanation.rows), *explanation.lines, f"image: {folder / cfg.topic}.png")


def prepare(cfg: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What explains the topic, and its arguments; UserError if there is none, or it lacks a key."""
    return chosen(cfg, key="topic", table="topics", function="explain", schema=ExplainConfig)


if __name__ == "__main__":
    main()
