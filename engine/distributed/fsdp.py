"""Sharded weights, for networks too large for one device: `trainer.shard=true`.

By torch's FSDP2 (`fully_shard`; ZeRO stage 3, arXiv 1910.02054): each process keeps one slice of
every weight, of its average, its gradient and its moments. A layer's weights are gathered while it
computes. Its gradient is averaged when its `backward` ends, so that DDP leaves it alone.
Checkpoints do not differ: the state of a run is full tensors, with and without.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from engine.distributed.processes import rank, world
from engine.network import groups

# Torch warns that gradients are wrong if the output is changed in place; no loss does that.
VIEW_WARNING = "FSDP2-wrapped module .* returned a view"


def shard(network: Any, device: torch.device, sent: torch.dtype | None = None) -> None:
    """Shard every parameter over the processes, in place, an FSDP unit a layer of the backbone.

    Slices are contiguous, so weights are no longer `channels_last`. Gradients are exchanged
    in the type `sent`; None: in their own.
    """
    warnings.filterwarnings("ignore", VIEW_WARNING)
    network.to(memory_format=torch.contiguous_format)
    mesh = init_device_mesh(device.type, (world(),))  # torch's default is GPUs where there are any
    policy = MixedPrecisionPolicy(reduce_dtype=sent, cast_forward_inputs=False)
    for group in groups(network):
        for member in group:
            if isinstance(member, nn.Module) and member is not network.head:
                fully_shard(member, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy)


def local_shard(tensor: Tensor) -> Tensor:
    """Return this process's slice of a sharded tensor, any other tensor unchanged."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor, any other is returned unchanged; call it in all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def unshard_state(state: Any) -> Any:
    """Return a state with full tensors in place of sharded ones; call it in all processes.

    Rank 0 gets them on the CPU; the others, which write no checkpoint, get None.
    """
    if isinstance(state, dict):
        new = copy.copy(state)  # keeps the version numbers that torch attaches
        new.update((key, unshard_state(value)) for key, value in state.items())
        return new
    if not isinstance(state, DTensor):
        return state
    tensor = full_tensor(state)
    return None if rank() else tensor.cpu().clone()  # without the last slice's padding


def match_layout(value: Any, like: Tensor) -> Any:
    """Copy a tensor of the shape of `like` into its memory layout, device and shards.

    Anything else is returned unchanged. All processes must hold the full value.
    """
    if not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    if isinstance(like, DTensor):
        value = value.to(like.device).contiguous()
        return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like, dtype=value.dtype, requires_grad=False).copy_(value)


def weights_like(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return full weights, sharded where the network's are."""
    sharded = {k: v for k, v in network.state_dict().items() if isinstance(v, DTensor)}
    new = copy.copy(state)
    new.update((k, match_layout(state[k], like)) for k, like in sharded.items() if k in state)
    return new


@contextmanager
def unsharded(network: nn.Module) -> Iterator[None]:
    """Gather all weights in every process, so that their numbers of forward passes may differ."""
    units = [module for module in network.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    yield
    for unit in units:
        unit.set_reshard_after_forward(unit is not network, recurse=False)
        unit.reshard()
