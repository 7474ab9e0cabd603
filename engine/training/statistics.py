"""Running statistics of batch normalisation on which a short run can rely.

A layer keeps moving averages of its batches' means and variances, for evaluation. With the
published momentum of .01 (MobileNet v3), 45 % of the average after 80 steps is what it began with,
mean 0 and variance 1, and the network is evaluated as a constant. So the momentum follows the
number n of batches that the layer has seen, max(momentum, FORGET / (n + FORGET)): the first batch
replaces what was there, batches long ago count ever less, and from n = FORGET / momentum on it is
the published momentum.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

FORGET = 2.0  # the weight of the first k batches falls as (k / n) ** FORGET
KNOWN = 0.1  # the first momentum of statistics that came with weights: torch's default


class BatchStatistics:
    """The running statistics of a network, updated with a momentum that follows the steps.

    The number of batches a layer has seen is `num_batches_tracked` in its state, so that a resumed
    run goes on alike. Statistics that came with weights count as those of 18 batches.

    Args:
        network: on its device, before its first step; its layers stay the same objects.
    """

    def __init__(self, network: nn.Module) -> None:
        layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.momentum]
        self.layers: list[Any] = [layer for layer in layers if layer.running_mean is not None]
        self.momenta = [float(layer.momentum) for layer in self.layers]
        self.steps = FORGET / min(self.momenta, default=FORGET)  # then all have their own momentum
        for layer in self.layers:
            if layer.running_mean.any() or (layer.running_var != 1).any():
                layer.num_batches_tracked.fill_(round(FORGET / KNOWN - FORGET))
        self.published = [
            torch.full_like(layer.num_batches_tracked, momentum, dtype=torch.float32)
            for layer, momentum in zip(self.layers, self.momenta, strict=True)
        ]

    @contextmanager
    def following(self, step: int) -> Iterator[None]:
        """Around a forward pass in training mode: update the statistics as is due at this step.

        Args:
            step: of the run, from 0.
        """
        if step >= self.steps:
            yield
            return
        rows = [i for i, layer in enumerate(self.layers) if layer.training]
        layers = [self.layers[i] for i in rows]
        # `data`, for backward refuses statistics changed in place, though it does not read them.
        running = [x.data for layer in layers for x in (layer.running_mean, layer.running_var)]
        before = [x.clone() for x in running]
        try:
            for layer in layers:
                layer.momentum = 1.0  # they become those of the batch; a compiled graph keeps this
            yield
        finally:
            for i in rows:
                self.layers[i].momentum = self.momenta[i]
        if rows:
            seen = torch.stack([layer.num_batches_tracked for layer in layers]) - 1
            due = torch.stack([self.published[i] for i in rows]).maximum(FORGET / (seen + FORGET))
            old = [share for share in (1 - due).unbind() for _ in range(2)]
            torch._foreach_lerp_(running, before, old)
