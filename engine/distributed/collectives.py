"""One run in several processes, as torchrun starts them; with one, nothing here does anything.

Every process has the same weights and takes its share of each batch. Gradients are averaged here
instead of by torch's DistributedDataParallel: that regroups them after the first step it sees, and
with three processes the order of a sum, so its last bit, would depend on where a run was resumed.
Parameters that freeze or have no gradient need no care either. It has no overlap with `backward`.
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, zip_longest
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from engine.errors import Stopped, UserError

T = TypeVar("T")
P = ParamSpec("P")
TIMEOUT = timedelta(minutes=30)  # how long one process waits for another, in one exchange
LOST = re.compile("gloo|connection (closed|reset)|broken pipe|timed out", re.IGNORECASE)
ENDED = (
    "another process of this run has ended or hangs, so this one ends too; the first message and "
    "torchrun's report say why. To go on from the last checkpoint: train.py resume=auto"
)


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_device(device: torch.device) -> torch.device:
    """The device of this process where `device=` names one for all.

    Raises:
        UserError: it cannot be shared out.
    """
    if not dist.is_torchelastic_launched() or device.type == "cpu":
        return device
    here, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if device.type != "cuda" or device.index is not None:
        raise UserError(f"device={device}: expected cpu or cuda from torchrun, a GPU a process")
    if here >= count:
        raise UserError(f"process {here} on this machine, {count} GPUs: --nproc-per-node={count}")
    torch.cuda.set_device(here)
    return torch.device("cuda", here)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Inside, this process is one of torchrun's; what ends all of them is said once."""
    if not dist.is_torchelastic_launched():
        yield
        return
    store, number, count = next(dist.rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT, world_size=count, rank=number, store=store)
    try:
        yield
    except UserError as error:
        _once(store, str(error), 2)
        raise
    except Stopped as stopped:
        if number:
            raise SystemExit(128 + stopped.args[0]) from None
        raise
    except RuntimeError as error:
        if not LOST.search(str(error)):
            raise
        _once(store, ENDED, 1)
        print(ENDED, file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        dist.destroy_process_group()


def _once(store: dist.Store, message: str, code: int) -> None:
    """End in silence where another process has said the same."""
    if store.add(message, 1) > 1:
        raise SystemExit(code) from None


def rank_zero_only(function: Callable[P, Any]) -> Callable[P, Any]:
    """What writes or draws: called in the first process, nothing in the others."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> Any:
        return None if rank() else function(*args, **kwargs)

    return called


def broadcast_from_rank_zero(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them."""
    if world() == 1:
        return make()
    made: list[Any] = [make() if rank() == 0 else None]
    dist.broadcast_object_list(made)
    return made[0]


def all_gather(items: list[T]) -> list[T]:
    """The items of all processes."""
    if world() == 1:
        return items
    parts: list[Any] = [None] * world()
    dist.all_gather_object(parts, items)
    return list(chain(*parts))


def gather_in_order(shard: Iterable[T]) -> Iterator[T]:
    """All items in the first process, none in the others.

    Args:
        shard: of N processes, process r has every Nth item from r on.
    """
    if world() == 1:
        yield from shard
        return
    parts: list[Any] | None = None if rank() else [None] * world()
    dist.gather_object(list(shard), parts)
    for row in zip_longest(*(parts or []), fillvalue=dist):  # shards need not be equal
        yield from (item for item in row if item is not dist)


def mean_count(count: Tensor) -> Tensor:
    """`count`, at least 1, for a loss that is a sum over what is counted, divided by it.

    Where gradients are taken it is the mean of the processes' counts, so that the mean of their
    losses is the loss of the whole batch.
    """
    if world() == 1 or not torch.is_grad_enabled():
        return count.clamp(min=1)
    total = count.detach().clone()
    dist.all_reduce(total)
    return total.clamp(min=1) / world()


def means(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each scalar as the mean of the processes', without its graph."""
    if world() == 1:
        return losses
    values = torch.stack([value.detach().float() for value in losses.values()])
    dist.all_reduce(values)
    return dict(zip(losses, (values / world()).unbind(), strict=True))


def average(parameters: Iterable[nn.Parameter]) -> None:
    """Every gradient becomes the mean of the processes'; one in shards is it already."""
    if world() == 1:
        return
    gradients = [p.grad for p in parameters if not isinstance(p.grad, DTensor | None)]
    if not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    parts = flat.div_(world()).split([g.numel() for g in gradients])
    views = [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]
    torch._foreach_copy_(gradients, views)


def broadcast_weights(network: nn.Module) -> None:
    """The first process's weights and buffers, batch statistics too, in all; not its shards."""
    for value in network.state_dict().values() if world() > 1 else ():
        if not isinstance(value, DTensor):
            dist.broadcast(value, 0)


def sync_bn(network: nn.Module, device: torch.device) -> Any:
    """The network with batch statistics of all processes together, by torch's own layers.

    Raises:
        UserError: torch has them on GPUs alone, and they need several processes.
    """
    if device.type != "cuda" or world() == 1:
        raise UserError(
            f"trainer.sync_bn=true: expected several processes on GPUs (torchrun), got {world()} "
            f"on {device.type}; set trainer.sync_bn=false"
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def reseed(*numbers: int) -> None:
    """What the network draws next follows from the numbers and the process, nothing before.

    With one process the draws go on from where they are.
    """
    if world() > 1:
        words = np.random.SeedSequence((*numbers, rank())).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0] >> 1))


class DelayedAllReduceMax:
    """The largest of the processes' numbers, one call late, so that nobody waits for it.

    With one process it is not late.
    """

    def __init__(self) -> None:
        self.said, self.work = torch.zeros((), dtype=torch.int64), None

    def __call__(self, number: int) -> int:
        """Say a number; what was the largest at the call before, 0 at the first."""
        if world() == 1:
            return number
        if self.work is not None:
            self.work.wait()
        before, self.said = int(self.said), torch.tensor(number)
        self.work = dist.all_reduce(self.said, dist.ReduceOp.MAX, async_op=True)
        return before
