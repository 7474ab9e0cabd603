"""The findings before the first epoch."""

from omegaconf import DictConfig

from engine.console import warn
from engine.data import survey
from engine.data.loader import Loader
from engine.distributed.processes import rank_zero_only
from engine.doctor import labels, settings
from engine.finding import Finding
from engine.network_protocols import HeadOptions
from engine.output import draw_anchors
from engine.training.run import Run


@rank_zero_only
def report(cfg: DictConfig, run: Run, loaders: tuple[Loader, Loader]) -> None:
    """Print what would waste this run, a line each; nothing of a run that was resumed."""
    if not run.clock.step:
        warn(findings(cfg, run, loaders))


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
        *(
            labels.of_data(cfg.dataset, train.dataset, val.dataset, seen.records)
            if all_images
            else ()
        ),
        *_of_head(run, loaders, seen),
        *settings.findings(cfg, run, train, seen.sizes),
    ]


def _of_head(run: Run, loaders: tuple[Loader, Loader], seen: survey.Seen) -> list[Finding]:
    ask = HeadOptions.findings.of(run.network.head)
    samples = loaders[0].samples
    view = survey.view(seen, samples.augment, samples.size) if ask else None
    if ask is None or view is None:
        return []
    slots, cells = draw_anchors.grid(run.network, loaders[1]) or (None, None)
    return ask(view._replace(slots=slots, cells=cells))
