"""The three commands of a run. Torch loads when their configuration is composed and checked."""

from typing import Any

from engine import sweep
from engine.cli import command
from engine.output import leaderboard
from engine.output.sweep import Jobs, end

sweep.register()


def _after_sweep() -> int:
    """Print and draw the jobs of the sweep, if this was one; return the code of a failed job."""
    code = end()
    if Jobs.folder and any(row["state"] == "done" for row in leaderboard.read(Jobs.folder)):
        from engine.report import sweep

        sweep.write(str(Jobs.folder))
    return code


@command("train", after_sweep=_after_sweep)
def train(cfg: Any) -> float:
    """Train, and return the best value of the primary metric."""
    from engine.builders.missing import refuse_missing, refuse_missing_data

    refuse_missing(cfg)
    if cfg.get("resume") is None:
        refuse_missing_data(cfg)

    from engine import train

    return train.train(cfg)


def evaluation(cfg: Any) -> float:
    """Evaluate a checkpoint or a predictions file, and return the value of the primary metric."""
    from engine.builders.missing import refuse_missing
    from engine.report import score

    score.check(cfg)
    if not cfg.checkpoint:  # files are scored without torch, which loads for seconds
        return score.score(cfg)
    refuse_missing(cfg)

    from engine import evaluate

    return evaluate.evaluate(cfg)


@command("eval", after_sweep=_after_sweep)
def evaluate(cfg: Any) -> float:
    """`evaluation` as a command; programs call that."""
    return evaluation(cfg)


@command("predict", after_sweep=_after_sweep)
def predict(cfg: Any) -> None:
    """Write annotated images and predictions.json."""
    from engine.builders.missing import refuse_missing

    refuse_missing(cfg)

    from engine import predict

    predict.predict(cfg)
