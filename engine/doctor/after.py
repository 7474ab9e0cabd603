"""The findings of a run's first evaluation."""

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from engine.console import warn
from engine.distributed.processes import rank_zero_only
from engine.finding import Finding
from engine.network_protocols import HeadOptions
from engine.protocols import Metric, MetricOptions
from engine.record import Meta
from engine.structures import Objects
from engine.training import same_answer
from engine.training.run import Run


@rank_zero_only
def first_evaluation(
    cfg: DictConfig, run: Run, metric: Metric, predicted: Sequence[tuple[Objects, list[Meta]]]
) -> None:
    """Print what is wrong with the first predictions; nothing of later ones.

    Args:
        cfg: the whole configuration.
        run: before its epoch ends, so that its best is that of earlier ones.
        metric: that has computed its numbers of them.
        predicted: of all batches, empty where the epoch was not evaluated.
    """
    if predicted and run.best == float("-inf") and not same_answer.was_reported(run.evaluated):
        warn(findings(cfg, run, metric, predicted))


def findings(
    cfg: DictConfig, run: Run, metric: Metric, predicted: Sequence[tuple[Objects, list[Meta]]]
) -> list[Finding]:
    """Return that nothing is predicted, or else what the metric sees."""
    if any(len(objects) for objects, _ in predicted):
        return MetricOptions.findings.of(metric)()
    key = HeadOptions.score_key.of(run.network.head)
    images = sum(len(meta) for _, meta in predicted)
    longer = "minutes" if cfg.trainer.epochs is None else "epochs"
    score = f"{key}={OmegaConf.select(cfg, key)}" if key else "the head's own threshold"
    return [
        Finding(
            f"nothing is predicted in {images} images: no score is above {score}",
            f"lower {key or 'it'}, or train longer (trainer.{longer}) at a higher optimizer.lr",
        )
    ]
