"""The three commands of a run. Torch loads when their configuration is composed and checked."""

from typing import Any

from engine.cli import command
from engine.output import sweep


@command("train", after_sweep=sweep.show_end)
def train(cfg: Any) -> float:
    """Train, and return the best value of the primary metric."""
    from engine import train

    return train.train(cfg)


@command("eval")
def evaluate(cfg: Any) -> float:
    """Evaluate, and return the value of the primary metric."""
    from engine import evaluate

    return evaluate.evaluate(cfg)


@command("predict")
def predict(cfg: Any) -> None:
    """Write annotated images and predictions.json."""
    from engine import predict

    predict.predict(cfg)
