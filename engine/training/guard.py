"""Steps whose loss or gradient is not finite: skipped on the device, counted, and named."""

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engine.console import info
from engine.distributed.collectives import all_gather
from engine.errors import Diverged
from engine.structures import Meta


class Guard:
    """Judges every step without reading the device; `report` reads what has gathered since.

    Args:
        network: its buffers (statistics of batch normalisation) are put back when a step is bad.
        limit: skipped steps in a row that end the run.
        device: where the flags are.
    """

    def __init__(self, *, network: nn.Module, limit: int, device: torch.device) -> None:
        self.limit = limit
        self.buffers = [b for b in network.buffers() if b.is_floating_point()]
        self.kept = [b.clone() for b in self.buffers]
        self.bad = torch.zeros((), dtype=torch.bool, device=device)  # of the step so far
        self.row = 0  # bad steps in a row, up to the last report
        self.paths: list[str] = []  # of the step so far
        self.recent: deque[tuple[Tensor, list[str]]] = deque()  # since the last report

    def watch(self, meta: list[Meta]) -> None:
        """Note the images of a batch, before the network sees them."""
        if not self.paths and self.kept:  # the step's first
            torch._foreach_copy_(self.kept, self.buffers)
        self.paths += [str(m.path) for m in meta]

    def finite(self, loss: Tensor) -> Tensor:
        """Whether the batch's loss is finite; one that is not makes its step bad."""
        finite = loss.detach().isfinite()
        self.bad = self.bad | ~finite
        return finite

    def is_bad_step(self, norm: Tensor) -> Tensor:
        """Whether the step whose gradient has this norm must be skipped; buffers go back if so."""
        bad = self.bad | ~norm.isfinite()
        for buffer, kept in zip(self.buffers, self.kept, strict=True):
            torch.where(bad, kept, buffer, out=buffer)
        self.recent.append((bad, self.paths))
        self.bad, self.paths = torch.zeros_like(bad), []
        return bad

    def report(self, step: int) -> None:
        """Say which of the last steps, the newest of them `step`, were skipped.

        Raises:
            Diverged: `limit` of them in a row.
        """
        if not self.recent:
            return
        flags = torch.stack([bad for bad, _ in self.recent]).tolist()
        first = step - len(flags) + 1
        for number, (bad, (_, paths)) in enumerate(zip(flags, self.recent, strict=True), first):
            self.row = self.row + 1 if bad else 0
            if bad:  # in every process: the loss and the gradient that are judged are their mean
                paths = all_gather(paths)
                info(f"step {number} skipped, its loss or gradient is not finite: {_few(paths)}")
            if self.row >= self.limit:
                raise Diverged(
                    f"step {number}: the loss or its gradient is not finite {self.row} times in a "
                    f"row, the last time over {_few(paths)}; look at these images and their "
                    "boxes, lower optimizer.lr, or set trainer.precision=fp32"
                )
        self.recent.clear()

    def state(self) -> dict[str, Any]:
        """How many bad steps in a row, the unreported ones included."""
        row = self.row
        for bad, _ in self.recent:
            row = row + 1 if bool(bad) else 0
        return {"row": row}

    def restore(self, saved: dict[str, Any]) -> None:
        """Back to a state; steps since then are as if they had not been."""
        self.row = saved["row"]
        self.recent.clear()
        self.bad, self.paths = torch.zeros_like(self.bad), []


def _few(paths: list[str]) -> str:
    more = f" and {len(paths) - 8} more" if len(paths) > 8 else ""
    return ", ".join(paths[:8]) + more


def guarded_step(optimizer: Optimizer, bad: Tensor) -> None:
    """A step that changes nothing where `bad` is set.

    Fused optimizers decide on the device, as a gradient scaler has them do; the others, and fused
    momentum that has yet to begin, need the flag read.
    """
    begun = bool(optimizer.state) or not optimizer.defaults.get("momentum")
    if optimizer.defaults.get("fused") and begun:
        optimizer.grad_scale, optimizer.found_inf = None, bad.float()  # type: ignore[attr-defined]
    elif bad:
        optimizer.zero_grad()  # a step without gradients
    optimizer.step()
