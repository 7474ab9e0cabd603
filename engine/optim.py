"""Which parameters decay, and the optimizer over them."""

from functools import partial

from torch import nn
from torch.optim import Optimizer


def optimizer(network: nn.Module, make: partial[Optimizer]) -> Optimizer:
    """Weights decay; biases and the scales of normalisation do not (arXiv 1812.01187, 3.1)."""
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return make([g for g in groups if g["params"]])
