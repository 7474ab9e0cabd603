"""Which of several processes this one is. No import of torch: without it there is one process."""

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


def rank() -> int:
    """Return the rank of this process, 0 without torchrun."""
    group = _group()
    return group.get_rank() if group else 0


def world() -> int:
    """Return the number of processes, the world size."""
    group = _group()
    return group.get_world_size() if group else 1


def rank_zero_only(function: Callable[P, Any]) -> Callable[P, Any]:
    """Decorator: the function is called on rank 0 alone and returns None on all others."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> Any:
        return None if rank() else function(*args, **kwargs)

    return called


def broadcast_from_rank_zero(make: Callable[[], T]) -> T:
    """Return in all processes what `make` returns on rank 0."""
    group = _group()
    if not group or world() == 1:
        return make()
    made: list[Any] = [make() if rank() == 0 else None]
    group.broadcast_object_list(made)
    return made[0]


def _group() -> Any:
    """torch.distributed where a group of processes is at work, else None."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None
