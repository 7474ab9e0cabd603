"""Weights in shards, for networks too large for one device: `trainer.shard=true`.

By torch's FSDP2 (`fully_shard`; ZeRO stage 3, arXiv 1910.02054): of every weight, its average, its
gradient and its moments a process keeps one slice. A layer's weights are whole while it computes.
Its gradient is averaged when its `backward` ends, so that `distributed.average` has nothing to do.
Seen from outside nothing differs: the state of a run is whole tensors, with and without.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hydra.utils
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from engine.config.schema import Precision
from engine.distributed.collectives import rank, world
from engine.errors import UserError
from engine.network import groups
from engine.protocols import ClipOptions

# Torch warns that its gradients would be wrong were it changed in place, which no loss does.
VIEW = "FSDP2-wrapped module .* returned a view"


def check(cfg: DictConfig, network: Any, precision: Precision) -> None:
    """Refuse what does not work in shards, or was never seen to.

    Raises:
        UserError: naming the keys.
    """
    if world() == 1:
        raise UserError("trainer.shard=true: expected several processes (torchrun), got one; say "
                        "trainer.shard=false")  # fmt: skip
    trainer = cfg.trainer
    clip, optimizer = (hydra.utils.get_class(cfg[k]["_target_"]) for k in ("clip", "optimizer"))
    refused = {
        "trainer.compile": trainer.compile,
        "trainer.sync_bn": trainer.sync_bn,
        "trainer.histograms": trainer.histograms,
        "trainer.l1": trainer.l1,
        "trainer.l2": trainer.l2,
        "trainer.precision=fp16": precision is Precision.fp16,
        "a clip by value": not ClipOptions.in_shards.of(clip),
        "optimizer.fused of SGD": optimizer is torch.optim.SGD and cfg.optimizer.get("fused"),
        "a head that finds boxes": "boxes" in network.head.outputs,
    }
    if wrong := [key for key, said in refused.items() if said]:
        raise UserError(f"trainer.shard=true does not go with {', '.join(wrong)}: change one")


def shard(network: Any, device: torch.device) -> None:
    """Keep one slice of every parameter here; each layer of the backbone's groups is a unit.

    Slices are contiguous, so weights are no longer `channels_last`.
    """
    warnings.filterwarnings("ignore", VIEW)
    network.to(memory_format=torch.contiguous_format)
    mesh = init_device_mesh(device.type, (world(),))  # torch's own is of GPUs wherever there are
    for group in groups(network):
        for member in group:
            if isinstance(member, nn.Module) and member is not network.head:
                fully_shard(member, mesh=mesh)
    fully_shard(network, mesh=mesh)


def local(tensor: Tensor) -> Tensor:
    """The slice of this process; what is not in slices itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """All slices together, in all processes at once; what is not in slices itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole(state: Any) -> Any:
    """A state with whole tensors in place of slices, asked for in all processes at once.

    The first process has them on the CPU; the others, which write nothing, have None instead.
    """
    if isinstance(state, dict):
        new = copy.copy(state)  # with what torch notes of versions
        new.update((key, whole(value)) for key, value in state.items())
        return new
    if not isinstance(state, DTensor):
        return state
    tensor = full(state)
    return None if rank() else tensor.cpu().clone()  # without what fills the last slice up


def like(value: Any, own: Tensor) -> Any:
    """A tensor of the shape of `own` in its layout, device and slices; others as they are.

    Of what becomes slices all processes have the whole.
    """
    if not isinstance(value, Tensor) or value.shape != own.shape:
        return value
    if isinstance(own, DTensor):
        value = value.to(own.device).contiguous()
        return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
    return torch.empty_like(own, dtype=value.dtype, requires_grad=False).copy_(value)


def weights_like(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Whole weights in the slices of a network's, where it has slices."""
    sliced = {k: v for k, v in network.state_dict().items() if isinstance(v, DTensor)}
    new = copy.copy(state)
    new.update((key, like(state[key], own)) for key, own in sliced.items() if key in state)
    return new


@contextmanager
def complete(network: nn.Module) -> Iterator[None]:
    """All weights whole in every process: inside, one may compute more often than another."""
    units = [module for module in network.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    yield
    for unit in units:
        unit.set_reshard_after_forward(unit is not network, recurse=False)
        unit.reshard()
