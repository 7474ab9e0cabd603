"""The optimizer: which parameters have weight decay, and their learning rates."""

import copy
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from engine.distributed.fsdp import match_layout


def build_optimizer(
    param_groups: Iterable[tuple[float, Iterable[nn.Parameter]]], make: partial[Optimizer]
) -> Optimizer:
    """Build it; biases and scales of normalisation do not decay (arXiv 1812.01187, 3.1).

    Args:
        param_groups: parameters, with the factor of their learning rate.
        make: the optimizer, waiting for its parameters.
    """
    groups: list[dict[str, Any]] = []
    for factor, parameters in param_groups:
        rate = {} if factor == 1 else {"lr": factor * make.keywords["lr"]}
        params = list(parameters)
        groups += [
            {"params": [p for p in params if p.ndim > 1], **rate},
            {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0, **rate},
        ]
    return make([g for g in groups if g["params"]])


def match_state_layout(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Return a saved state with its moments laid out in memory, and sharded, as the parameters are.

    Fused optimizers go through both in the order of memory and ignore their strides.
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        i: {key: match_layout(value, params[i]) for key, value in saved.items()}
        for i, saved in state["state"].items()
    }
    return {**state, "state": moments}


def trial_state(
    optimizer: Optimizer, group: dict[str, Any], parameter: nn.Parameter
) -> dict[str, Any] | None:
    """Return what an optimizer keeps of a parameter after a step; None where it takes no such step.

    Args:
        optimizer: a copy of it takes the step, and it stays as it is.
        group: one of its own, for the settings.
        parameter: a small one on the CPU; the step may change it.
    """
    trial = copy.copy(optimizer)
    trial.param_groups = [{**group, "params": [parameter], "fused": None, "capturable": False}]
    trial.state = defaultdict(dict)
    parameter.grad = torch.zeros_like(parameter)
    try:
        trial.step()
    except Exception:  # a user's optimizer may want more than parameters and gradients
        return None
    return trial.state[parameter]
