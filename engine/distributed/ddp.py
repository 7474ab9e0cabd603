"""Gradients averaged over the processes by torch's DistributedDataParallel, during `backward`.

DDP keeps gradients in buckets, each exchanged as soon as its last gradient is there, while
`backward` goes on with the layers before. It learns which parameters have gradients, and in which
order, from its first two steps, and then forms other buckets: with three processes the order of a
sum, hence its last bit, would depend on where a run was resumed. So two steps whose gradients are
thrown away (`_learn`) come before those that count, and again whenever other parameters train than
before (`engine.training.finetune`).
"""

import warnings
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from engine.config.schema import Compression
from engine.distributed.processes import world
from engine.network import Network
from engine.structures import Batch, Output

# The new name for the argument is not in torch 2.9. Strides differ where a kernel has one input
# channel, whose layout can be named in two ways: the numbers are copied.
WARNINGS = ("`broadcast_buffers` is deprecated", "Grad strides do not match bucket view strides")


class Replica:
    """The copy of the network that a process trains, as the training loop calls it.

    With one process, or with sharded weights, a call is the network's own.

    Args:
        network: equal in all processes; its state dict stays as it is.
        compression: of gradients while they are exchanged; None sends them as they are.
    """

    def __init__(self, network: Network, compression: Compression | None = None) -> None:
        self.network, self.compression = network, compression
        is_sharded = any(isinstance(p, DTensor) for p in network.parameters())
        self.exchanges = world() > 1 and not is_sharded
        self.trained: list[nn.Parameter] = []  # whose gradients DDP averages
        self.ddp: Any = None

    def __call__(self, batch: Batch, *, averages: bool = True) -> Output:
        """Return the network's output for a batch.

        Args:
            batch: on the network's device.
            averages: whether the next `backward` ends a step: it averages all gradients that there
                are, those of the batches before it too. If not, gradients stay this process's own.
        """
        if not self.exchanges:
            return self.network(batch.images)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        if [*map(id, trained)] != [*map(id, self.trained)]:
            self.trained = trained
            self._wrap(batch)
        with nullcontext() if averages else self.ddp.no_sync():
            return self.ddp(batch.images)

    def _wrap(self, batch: Batch) -> None:
        for warning in WARNINGS:
            warnings.filterwarnings("ignore", warning)
        self.ddp = None  # its buckets are freed before there are others
        self.ddp = DistributedDataParallel(
            self.network,
            broadcast_buffers=False,  # batch statistics stay each process's own until evaluation
            init_sync=False,  # weights are equal
            gradient_as_bucket_view=True,
            static_graph=True,
        )
        if self.compression is Compression.bf16:
            self.ddp.register_comm_hook(None, bf16_compress_hook)
        self._learn(batch)

    def _learn(self, batch: Batch) -> None:
        """Let DDP see two steps; batch statistics and random numbers stay as they are.

        In the first it sees which parameters have gradients, in the second their order.
        """
        buffers = list(self.network.buffers())
        saved = [b.clone() for b in buffers]
        devices = [batch.images.device] if batch.images.is_cuda else []
        is_compiled = self.network._compiled_call_impl is not None
        eager = torch.compiler.set_stance("force_eager") if is_compiled else nullcontext()
        with torch.random.fork_rng(devices), eager:
            for _ in range(2):
                losses = self.network.losses(self.ddp(batch.images), batch.objects)
                torch.stack(list(losses.values())).sum().backward()
                for parameter in self.trained:
                    parameter.grad = None
        for buffer, before in zip(buffers, saved, strict=True):
            buffer.copy_(before)
