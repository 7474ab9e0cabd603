"""Ranges of the arguments of torch's optimizers, which have none themselves. Imports no torch."""

from typing import Annotated, Any

from engine.config.ranges import (
    InnerShare,
    NonNegative,
    PartialShare,
    Positive,
    Range,
    Share,
)

Decay = PartialShare  # of a running mean: 0 to below 1
Epsilon = Annotated[float, Range(0, 1)]
Rate = Annotated[float, Range(0, 1000)]
Coefficient = Annotated[float, Range(-100, 100)]
RANGES: dict[str, Any] = {  # of the arguments of torch's optimizers, by name
    "lr": Rate,
    "lr_decay": Share,
    "betas": tuple[Decay, Decay],
    "momentum": Decay,
    "dampening": Share,
    "weight_decay": Rate,
    "eps": Epsilon | tuple[Epsilon | None, Epsilon],  # Adafactor has two
    "alpha": Decay,
    "rho": Decay,
    "initial_accumulator_value": NonNegative,
    "momentum_decay": Share,
    "lambd": Share,
    "t0": NonNegative,
    "etas": tuple[InnerShare, Annotated[float, Range(1, 100, "(]")]],
    "step_sizes": tuple[Positive, Positive],
    "beta2_decay": Annotated[float, Range(-1, 0)],
    "d": Annotated[float, Range(1, 1000)],
    "ns_coefficients": tuple[Coefficient, Coefficient, Coefficient],
    "ns_steps": Annotated[int, Range(1, 100)],
}


def is_optimizer(target: type) -> bool:
    """Whether a class is an optimizer of torch; where torch is not loaded, there is none."""
    return any(base.__module__ == "torch.optim.optimizer" for base in target.__mro__)
