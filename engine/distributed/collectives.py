"""Data parallelism over the processes that torchrun starts; with one process, nothing is exchanged.

Every process has the same weights and trains on its share of each batch; `engine.distributed.ddp`
averages the gradients.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, zip_longest
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from engine import console
from engine.distributed.processes import rank, world
from engine.distributed.rounds import own_part
from engine.errors import Stopped, UserError

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)  # how long a process waits for another in one exchange
CONNECTION_LOST = re.compile("gloo|connection (closed|reset)|broken pipe|timed out", re.IGNORECASE)
PEER_LOST = (
    "another process of this run has ended or hangs, so this one ends too; the first message and "
    "torchrun's report give the reason. To go on from the last checkpoint: train.py resume=auto"
)


def local_device(device: torch.device) -> torch.device:
    """Return the device of this process: under torchrun, `cuda` is the GPU of the local rank.

    Raises:
        UserError: `device` cannot be divided among the processes.
    """
    if not dist.is_torchelastic_launched() or device.type == "cpu":
        return device
    local_rank, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if device.type != "cuda" or device.index is not None:
        raise UserError(f"device={device}: expected cpu or cuda under torchrun, one GPU a process")
    if local_rank >= count:
        raise UserError(
            f"local rank {local_rank} on a machine of {count} GPUs: set --nproc-per-node={count}"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Make this process part of torchrun's group, if there is one, inside the `with` block.

    An error that ends all of them is printed by one.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    store, this_rank, count = next(dist.rendezvous("env://"))
    store = own_part(store, this_rank, count)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT, world_size=count, rank=this_rank, store=store)
    try:
        yield
    except UserError as error:
        _exit_if_printed(store, str(error), 2, alone=False)
        raise
    except Stopped as stopped:
        if this_rank:
            raise SystemExit(128 + stopped.args[0]) from None
        raise
    except RuntimeError as error:
        if not CONNECTION_LOST.search(str(error)):
            raise
        _exit_if_printed(store, PEER_LOST, 1)
        console.error(PEER_LOST)
        raise SystemExit(1) from None
    finally:
        dist.destroy_process_group()


def _exit_if_printed(store: dist.Store, message: str, code: int, alone: bool = True) -> None:
    """Exit without a word if another process prints the same message.

    The store may be gone with the process that had it: then `alone` decides who prints.
    """
    try:
        is_printed = store.add(message, 1) > 1
    except RuntimeError:
        is_printed = not alone
    if is_printed:
        raise SystemExit(code) from None


def all_gather(items: list[T]) -> list[T]:
    """Return the items of all processes in one list, in order of rank."""
    if world() == 1:
        return items
    parts: list[Any] = [None] * world()
    dist.all_gather_object(parts, items)
    return list(chain(*parts))


def check_equal(value: Any, what: str) -> None:
    """Refuse a value that is not the same in all processes, naming all of them.

    Raises:
        UserError: they see different files.
    """
    found = all_gather([value])
    if any(other != found[0] for other in found):
        raise UserError(
            f"{what}: the processes read {', '.join(map(str, found))}; expected one folder that "
            "all machines see alike: set hydra.run.dir to it"
        )


def gather_in_order(shard: Iterable[T]) -> Iterator[T]:
    """Yield the items of all processes on rank 0, none on the others.

    Args:
        shard: of N processes, rank r has every Nth item, from item r on.
    """
    if world() == 1:
        yield from shard
        return
    parts: list[Any] | None = None if rank() else [None] * world()
    dist.gather_object(list(shard), parts)
    for row in zip_longest(*(parts or []), fillvalue=dist):  # shards need not be equal
        yield from (item for item in row if item is not dist)


def mean_count(count: Tensor) -> Tensor:
    """Return the divisor of a loss that is a sum over `count` slots or objects; at least 1.

    In training it is the mean of the processes' counts, so that the mean of their losses is the
    loss of the whole batch.
    """
    if world() == 1 or not torch.is_grad_enabled():
        return count.clamp(min=1)
    total = count.detach().clone()
    dist.all_reduce(total)
    return total.clamp(min=1) / world()


def mean_losses(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean of each scalar over the processes, detached where there are several."""
    if world() == 1:
        return losses
    values = torch.stack([value.detach().float() for value in losses.values()])
    dist.all_reduce(values)
    return dict(zip(losses, (values / world()).unbind(), strict=True))


def broadcast_weights(network: nn.Module) -> None:
    """Copy the weights and buffers of rank 0 to all processes; sharded weights are skipped."""
    for value in network.state_dict().values() if world() > 1 else ():
        if not isinstance(value, DTensor):
            dist.broadcast(value, 0)


def sync_bn(network: nn.Module, device: torch.device) -> Any:
    """Return the network with torch's SyncBatchNorm, whose statistics span all processes.

    Raises:
        UserError: there is one process, or no GPU, which torch needs for it.
    """
    if device.type != "cuda" or world() == 1:
        raise UserError(
            f"trainer.sync_bn=true: expected several processes on GPUs (torchrun), got {world()} "
            f"on {device.type}; set trainer.sync_bn=false"
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def reseed(*numbers: int) -> None:
    """Seed torch's generator from the numbers and the rank, where there are several processes.

    With one process the generator keeps its state.
    """
    if world() > 1:
        words = np.random.SeedSequence((*numbers, rank())).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0] >> 1))


class DelayedAllReduceMax:
    """Maximum of a number over the processes, returned one call later so that none has to wait.

    With one process it is returned at once.
    """

    def __init__(self) -> None:
        self.maximum, self.work = torch.zeros((), dtype=torch.int64), None

    def __call__(self, number: int) -> int:
        """Send a number; return the maximum of the call before, 0 at the first call."""
        if world() == 1:
            return number
        if self.work is not None:
            self.work.wait()
        before, self.maximum = int(self.maximum), torch.tensor(number)
        self.work = dist.all_reduce(self.maximum, dist.ReduceOp.MAX, async_op=True)
        return before
