"""An exponential moving average of the weights, in the form of torch's own `AveragedModel`."""

from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from engine.distributed.fsdp import local_shard


class Average(AveragedModel):
    """The average of a network's weights and buffers; its first update is a copy of them.

    torch's own hands the number of updates over on the weights' device, where reading it would make
    every step wait. Here it is read where it lies, on the CPU.

    Args:
        network: on its device.
        decay: of update n it is min(decay, (1 + n) / (10 + n)): lower at first, so that the
            average of a short run forgets the initial weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the network's weights and buffers into the average."""
        n = int(self.n_averaged)
        old, new = (
            [local_shard(x.detach()) for x in chain(net.parameters(), net.buffers())]
            for net in (self.module, model)
        )
        floats = [x.is_floating_point() for x in old]
        share = 1 - min(self.decay, (1 + n) / (10 + n))
        if n:
            torch._foreach_lerp_(_where(old, floats, True), _where(new, floats, True), share)
            old, new = _where(old, floats, False), _where(new, floats, False)
        if old:  # all at first, then the batch counters of batch normalisation
            torch._foreach_copy_(old, new)
        self.n_averaged += 1


def _where(tensors: list[Tensor], flags: list[bool], wanted: bool) -> list[Tensor]:
    return [x for x, flag in zip(tensors, flags, strict=True) if flag is wanted]
