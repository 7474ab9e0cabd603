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
    """Return what ends trials early, of at most so many steps."""
    if options.pruner == "median":
        return MedianPruner(n_startup_trials=options.startup)
    if options.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=max(1, steps // 9), reduction_factor=3)
    if options.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=steps, reduction_factor=3)
    return NopPruner()
