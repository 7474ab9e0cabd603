"""The findings before the first epoch."""

from collections.abc import Sequence

from omegaconf import DictConfig

from engine.console import info
from engine.data import survey
from engine.data.loader import Loader
from engine.distributed.collectives import rank_zero_only
from engine.doctor import labels, settings
from engine.finding import Finding
from engine.output import draw_anchors
from engine.protocols import Dataset, HeadOptions
from engine.record import Record
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
    train, val = loaders
    seen = survey.seen(train.dataset, train.images)
    all_images = cfg.trainer.overfit is None  # not a few on purpose
    return [
        *(of_labels(cfg.dataset, train.dataset, val.dataset, seen.records) if all_images else ()),
        *_of_head(run, loaders, seen),
        *settings.findings(cfg, run, train, seen.sizes),
    ]


def of_labels(
    node: DictConfig, train: Dataset, val: Dataset, records: Sequence[Record]
) -> list[Finding]:
    """Return what the labels of a data set show, whatever is trained on them.

    Args:
        node: of the configuration's data set.
        train: its training images.
        val: its validation images.
        records: of some of train.
    """
    counts = [survey.counts(data, len(data)) for data in (train, val)]
    if counts[0] is None or counts[1] is None:
        return []
    key = "dataset.classes" if "classes" in node else "dataset.root"
    return [
        *labels.findings(train.classes, counts[0], counts[1], len(train), key),
        *labels.named_otherwise(train.classes, records, key),
    ]


def _of_head(run: Run, loaders: tuple[Loader, Loader], seen: survey.Seen) -> list[Finding]:
    ask = HeadOptions.findings.of(run.network.head)
    samples = loaders[0].samples
    view = survey.view(seen, samples.augment, samples.size) if ask else None
    if ask is None or view is None:
        return []
    slots, cells = draw_anchors.grid(run.network, loaders[1]) or (None, None)
    return ask(view._replace(slots=slots, cells=cells))
