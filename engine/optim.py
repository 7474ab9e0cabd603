"""Which parameters decay, at which rate they train, and the optimizer over them."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer


def optimizer(
    rates: Iterable[tuple[float, Iterable[nn.Parameter]]], make: partial[Optimizer]
) -> Optimizer:
    """Weights decay; biases and the scales of normalisation do not (arXiv 1812.01187, 3.1).

    Args:
        rates: parameters, with the factor of their learning rate.
        make: the optimizer but for its parameters.
    """
    groups: list[dict[str, Any]] = []
    for factor, parameters in rates:
        rate = {} if factor == 1 else {"lr": factor * make.keywords["lr"]}
        held = list(parameters)
        groups += [
            {"params": [p for p in held if p.ndim > 1], **rate},
            {"params": [p for p in held if p.ndim <= 1], "weight_decay": 0.0, **rate},
        ]
    return make([g for g in groups if g["params"]])
