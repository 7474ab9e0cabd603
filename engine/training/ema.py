"""An exponential moving average of the weights, by torch's own `AveragedModel`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from engine.distributed.fsdp import local


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """The average, buffers included; it warms up, so that a short run does not keep its start.

    The decay of update n is min(decay, (1 + n) / (10 + n)).
    """

    def average(old: Sequence[Tensor], new: Sequence[Tensor], count: Tensor | int) -> None:
        n = int(count)
        share = 1 - min(decay, (1 + n) / (10 + n))
        if old[0].is_floating_point():
            torch._foreach_lerp_([*map(local, old)], [*map(local, new)], share)
        else:  # the batch counter of batch normalisation
            torch._foreach_copy_(list(old), list(new))

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)  # type: ignore[arg-type]
