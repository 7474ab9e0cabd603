"""An exponential moving average of the weights, by torch's own `AveragedModel`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from engine.distributed.fsdp import local_shard


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return the moving average of a network's weights and buffers, at first a copy of them.

    The decay of update n is min(decay, (1 + n) / (10 + n)): lower at first, so that the average of
    a short run forgets the initial weights.
    """

    def average(old: Sequence[Tensor], new: Sequence[Tensor], count: Tensor | int) -> None:
        n = int(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        if old[0].is_floating_point():
            torch._foreach_lerp_([*map(local_shard, old)], [*map(local_shard, new)], weight)
        else:  # the batch counter of batch normalisation
            torch._foreach_copy_(list(old), list(new))

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)  # type: ignore[arg-type]
