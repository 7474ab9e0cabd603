"""Which parameters decay, at which rate they train, and the optimizer over them."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer

from engine.distributed.fsdp import like


def optimizer(
    param_groups: Iterable[tuple[float, Iterable[nn.Parameter]]], make: partial[Optimizer]
) -> Optimizer:
    """Weights decay; biases and the scales of normalisation do not (arXiv 1812.01187, 3.1).

    Args:
        param_groups: parameters, with the factor of their learning rate.
        make: the optimizer but for its parameters.
    """
    groups: list[dict[str, Any]] = []
    for factor, parameters in param_groups:
        rate = {} if factor == 1 else {"lr": factor * make.keywords["lr"]}
        held = list(parameters)
        groups += [
            {"params": [p for p in held if p.ndim > 1], **rate},
            {"params": [p for p in held if p.ndim <= 1], "weight_decay": 0.0, **rate},
        ]
    return make([g for g in groups if g["params"]])


def laid_out(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """A saved state whose moments lie in memory as the parameters do, in slices where they are.

    Fused optimizers go through both in the order of memory, whatever the strides say.
    """
    own = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        i: {key: like(value, own[i]) for key, value in kept.items()}
        for i, kept in state["state"].items()
    }
    return {**state, "state": moments}
