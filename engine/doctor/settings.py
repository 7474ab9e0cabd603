"""Findings about what a run does with its data: steps, parameters, sizes."""

from collections.abc import Sequence

import numpy as np
from omegaconf import DictConfig

from engine.config.image_size import size_of
from engine.data.loader import Loader
from engine.finding import Finding
from engine.training.run import Run
from engine.training.statistics import FORGET, KNOWN

STEPS = 50  # in all, below which a schedule is no curve: one-cycle rises over 15 of them
KEPT = round(FORGET / KNOWN)  # steps below which running statistics have not torch's own momentum
RANDOM = 1_000_000  # parameters from which a network is called large for its images
IMAGES = 500  # of training, below which it is
AN_IMAGE = RANDOM / 100  # parameters: a million on a hundred images
EIGHTH = 8  # the coarsest step of a JPEG's decoder, which images from 6 times the input on take


def findings(cfg: DictConfig, run: Run, train: Loader, sizes: Sequence) -> list[Finding]:
    """Return what is wrong with how long, how large and at which size a network trains.

    Args:
        cfg: the whole configuration.
        run: at its first step.
        train: the training images.
        sizes: (height, width) of some of them.
    """
    is_trial = cfg.trainer.limit is not None or cfg.trainer.overfit is not None  # short on purpose
    found = [
        None if is_trial else _few_steps(run, cfg.trainer.epochs),
        None if is_trial else _random(cfg, run, train.images),
        _one_image(run, train),
        _far_larger(cfg, train, sizes),
    ]
    return [finding for finding in found if finding]


def _few_steps(run: Run, epochs: int | None) -> Finding | None:
    if epochs is None:  # the clock, which the first steps tell, ends it
        return None
    steps = max(int(run.clock.total_steps), 1)
    reasons = ["the schedule"] * (steps < STEPS)
    reasons += ["the statistics of batch normalisation"] * (steps < KEPT and _is_normalised(run))
    if not reasons:
        return None
    return Finding(
        f"{steps} steps in all are too few for {' and '.join(reasons)}",
        f"raise trainer.epochs to {-(-STEPS * epochs // steps)} or more, or lower "
        "loader.batch_size",
    )


def _is_normalised(run: Run) -> bool:
    return bool(run.statistics.layers)


def _random(cfg: DictConfig, run: Run, images: int) -> Finding | None:
    """Return whether a large network starts from random weights on few images."""
    if cfg.backbone.get("weights") is not None:
        return None
    size = sum(parameter.numel() for parameter in run.network.parameters())
    if size < RANDOM or images >= IMAGES or size < AN_IMAGE * images:
        return None
    remedy = "take a smaller backbone="
    if "weights" in cfg.backbone:
        remedy = f"set backbone.weights=FILE or DEFAULT, or {remedy}"
    return Finding(f"{size / 1e6:.1f} million random parameters on {images} images", remedy)


def _one_image(run: Run, train: Loader) -> Finding | None:
    if train.batch_size > 1 or not _is_normalised(run):
        return None
    return Finding(
        "a batch of one image has no statistics for batch normalisation",
        "set loader.batch_size=4 or more",
    )


def _far_larger(cfg: DictConfig, train: Loader, sizes: Sequence) -> Finding | None:
    if not len(sizes):
        return None
    target = train.samples.size
    views = [train.samples.augment.full_viewport(size, target) for size in sizes]
    if np.median([view.reduce(target) for view in views]) < EIGHTH:
        return None
    times = np.median([min(v.height / target[0], v.width / target[1]) for v in views])
    height, width = size_of(cfg)
    return Finding(
        f"the images are {times:.0f} times as large as the network's input of {height} x {width}: "
        "what is small in them is lost",
        "raise image_size, or cut them into parts (predict.py has tile=)",
    )
