"""When an epoch is evaluated, and when a run is over."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from engine.config.resume import is_over
from engine.training.run import Run

EVALUATIONS = 10  # of a run whose trainer.eval_every is null


def is_finished(run: Run, cfg: DictConfig) -> bool:
    """Return whether the epochs, the budget of minutes or the patience is used up."""
    is_between_epochs = not run.progress.batches
    ended = is_over(cfg.trainer, epoch=run.epoch, stale=run.stale) or run.clock.done >= 1
    return is_between_epochs and ended


def is_due(trainer: Any, epoch: int, seconds: float, history: Sequence[dict[str, float]]) -> bool:
    """Whether the epoch that ends now is evaluated.

    Args:
        trainer: the configuration's part.
        epoch: from 1.
        seconds: trained until now.
        history: the rows of earlier epochs, as metrics.csv has them.
    """
    if epoch == trainer.epochs:
        return True
    if trainer.eval_every is not None:
        return epoch % trainer.eval_every == 0
    evaluated = [row for row in history if any(key.startswith("val/") for key in row)]
    before = _tenths(trainer, evaluated[-1]["epoch"], evaluated[-1]["seconds"]) if evaluated else 0
    return _tenths(trainer, epoch, seconds) > before


def _tenths(trainer: Any, epoch: float, seconds: float) -> int:
    """Parts of the run that are over, of `EVALUATIONS` equal ones."""
    by_epochs = EVALUATIONS * epoch / trainer.epochs if trainer.epochs else 0.0
    by_clock = EVALUATIONS * seconds / (60 * trainer.minutes) if trainer.minutes else 0.0
    return int(max(by_epochs, by_clock))
