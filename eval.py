"""Evaluate a checkpoint or a predictions file: python eval.py checkpoint=PATH split=test."""

from typing import Any

from engine.cli import command


@command("eval")
def main(cfg: Any) -> float:
    """Evaluate, and return the value of the primary metric."""
    from engine.evaluate import evaluate  # torch loads only now

    return evaluate(cfg)


if __name__ == "__main__":
    main()
