"""Optuna's samplers and pruners, as hydra.sweeper.sampler and hydra.sweeper.pruner name them."""

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from engine.sweep.options import Options


def sampler(options: Options, seed: int) -> BaseSampler:
    """Return what draws a trial's values."""
    if options.sampler == "tpe":
        return TPESampler(seed=seed, n_startup_trials=options.startup, constant_liar=True)
    if options.sampler == "gp":
        return GPSampler(seed=seed, n_startup_trials=options.startup)
    return RandomSampler(seed=seed)


def pruner(options: Options, steps: int) -> BasePruner:
    """Return what ends trials early, of at most so many steps.

    Halving (arXiv:1810.05934) keeps the better half at the end of the warm-up, and at each doubling
    of it.
    """
    first = max(1, round(options.warmup * steps))
    if options.pruner == "median":
        return MedianPruner(n_startup_trials=options.startup, n_warmup_steps=first)
    if options.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)
    if options.pruner == "hyperband":
        return HyperbandPruner(min_resource=first, max_resource=steps, reduction_factor=2)
    return NopPruner()
