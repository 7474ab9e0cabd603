"""The findings before the first epoch."""

from omegaconf import DictConfig

from engine.console import info
from engine.data import survey
from engine.data.loader import Loader
from engine.distributed.collectives import rank_zero_only
from engine.doctor import labels, settings
from engine.finding import Finding
from engine.output import draw_anchors
from engine.protocols import HeadOptions
from engine.training.run import Run


@rank_zero_only
def report(cfg: DictConfig, run: Run, loaders: tuple[Loader, Loader]) -> None:
    """Print what would waste this run, a line each; nothing of a run that was resumed."""
    if not run.clock.step:
        show(findings(cfg, run, loaders))


def show(found: list[Finding]) -> None:
    """Print findings, a line each."""
    for what, change in found:
        info(f"warning: {what}; {change}", strong=["warning:"])


def findings(cfg: DictConfig, run: Run, loaders: tuple[Loader, Loader]) -> list[Finding]:
    """Return what the truth, the network's slots and the settings show.

    Args:
        cfg: the whole configuration.
        run: at its first step.
        loaders: of training and validation.
    """
    train = loaders[0]
    seen = survey.seen(train.dataset, train.images)
    return [
        *_of_labels(cfg, loaders, seen),
        *_of_head(run, loaders, seen),
        *settings.findings(cfg, run, train, seen.sizes),
    ]


def _of_labels(cfg: DictConfig, loaders: tuple[Loader, Loader], seen: survey.Seen) -> list[Finding]:
    if cfg.trainer.overfit is not None:  # a few images on purpose
        return []
    train, val = map(survey.counts, loaders)
    if train is None or val is None:
        return []
    data = loaders[0].dataset
    key = "dataset.classes" if "classes" in cfg.dataset else "dataset.root"
    return [
        *labels.findings(data.classes, train, val, loaders[0].images, key),
        *labels.named_otherwise(data.classes, seen.records, key),
    ]


def _of_head(run: Run, loaders: tuple[Loader, Loader], seen: survey.Seen) -> list[Finding]:
    ask = HeadOptions.findings.of(run.network.head)
    samples = loaders[0].samples
    view = survey.view(seen, samples.augment, samples.size) if ask else None
    if ask is None or view is None:
        return []
    slots, cells = draw_anchors.grid(run.network, loaders[1]) or (None, None)
    return ask(view._replace(slots=slots, cells=cells))
