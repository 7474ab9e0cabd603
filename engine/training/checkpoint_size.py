"""How large the checkpoints of a run will be, known before it trains; whether the disk has room.

The moments of an optimizer do not exist before its first step: a trial on a tiny parameter of the
same number of dimensions tells how many there are, and of which shapes.
"""

import shutil
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engine.console import info
from engine.distributed.fsdp import local_shard
from engine.distributed.processes import rank_zero_only
from engine.training.optimizer import trial_state
from engine.training.run import Run

A_TENSOR = 300  # bytes of a file that a tensor takes besides its numbers, measured with torch 2.14
A_FILE = 6_000  # of the configuration
RANDOM = 16_000  # of the random states
SIDES = (2, 3, 5, 7, 11, 13, 17, 19)  # of a trial's parameter: each tells which dimension it is


class Sizes(NamedTuple):
    """Bytes of the two files of a run; `whole` is False where the optimizer's part is not known."""

    last: int
    best: int
    whole: bool = True


def sizes(run: Run) -> Sizes:
    """Return how large the checkpoints of a run are from the first epoch on."""
    weights = _stored(run.network.state_dict().values())
    moments = [
        _moments(run.optimizer, group, parameter)
        for group in run.optimizer.param_groups
        for parameter in group["params"]
    ]
    copies = 1 if run.ema is None else 2
    last = copies * weights + sum(size or 0 for size in moments) + RANDOM
    return Sizes(last + A_FILE, weights + A_FILE, None not in moments)


def _stored(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors in a file, where those that share their memory are written once."""
    apart = {local_shard(tensor).data_ptr(): tensor.nbytes for tensor in tensors}
    return sum(apart.values()) + A_TENSOR * len(apart)


def _moments(optimizer: Optimizer, group: dict, parameter: Tensor) -> int | None:
    """Bytes in a file of what an optimizer keeps of a parameter; None where that is not known."""
    shape = parameter.shape
    tiny = [side if real > 1 else real for side, real in zip(SIDES, shape, strict=False)]
    if len(tiny) < len(shape) or 0 in shape:
        return None
    trial = nn.Parameter(torch.zeros(tiny, dtype=parameter.dtype))
    held = trial_state(optimizer, group, trial)
    if held is None:
        return None
    real = dict(zip(tiny, shape, strict=True))
    tensors = [value for value in held.values() if isinstance(value, Tensor)]
    numbers = (prod(real.get(n, n) for n in t.shape) * t.element_size() for t in tensors)
    return sum(numbers) + A_TENSOR * len(tensors)


@rank_zero_only
def announce(run: Run, folder: Path) -> None:
    """Print how large the checkpoints of a run will be; warn where their disk has less room.

    Args:
        run: at its first step, or resumed.
        folder: of its checkpoints, or one above it that exists.
    """
    found = sizes(run)
    least = "" if found.whole else "at least "
    info(
        f"checkpoints: last.pt {least}{amount(found.last)} (goes on), "
        f"best.pt {amount(found.best)} (predicts)",
        strong=["checkpoints:"],
    )
    files = {"last.pt": found.last, "best.pt": found.best}
    there = {name: path.stat().st_size for name in files if (path := folder / name).is_file()}
    more = sum(max(0, size - there.get(name, 0)) for name, size in files.items())
    needed, free = more + max(files.values()), shutil.disk_usage(_existing(folder)).free
    if free < needed:
        info(
            f"warning: {folder}: its disk has {amount(free)} left, the checkpoints need {least}"
            f"{amount(needed)}, a new one beside the old one included; make room, or set another "
            "hydra.run.dir",
            strong=["warning:"],
        )


def _existing(folder: Path) -> Path:
    """The folder, or the first above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def amount(size: int) -> str:
    """Return bytes in megabytes or gigabytes, of a thousand and a million kilobytes."""
    return f"{size / 1e6:.1f} MB" if size < 999_950_000 else f"{size / 1e9:.1f} GB"
