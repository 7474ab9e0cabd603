"""Skips steps whose loss or gradient is not finite, counts them and names their images."""

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engine.console import info
from engine.distributed.collectives import all_gather
from engine.errors import Diverged
from engine.record import Meta


class Guard:
    """Checks every step on the device, without a synchronisation; `report` reads the results.

    Args:
        network: its buffers (statistics of batch normalisation) are restored when a step is bad.
        limit: this many skipped steps in a row end the run.
        device: of the flags.
    """

    def __init__(self, *, network: nn.Module, limit: int, device: torch.device) -> None:
        self.limit = limit
        self.buffers = [b for b in network.buffers() if b.is_floating_point()]
        self.saved = [b.clone() for b in self.buffers]
        self.bad = torch.zeros((), dtype=torch.bool, device=device)  # the current step, so far
        self.bad_in_a_row = 0  # up to the last report
        self.paths: list[str] = []  # of the current step's images, so far
        self.recent: deque[tuple[Tensor, list[str]]] = deque()  # of steps since report

    def watch(self, meta: list[Meta]) -> None:
        """Remember the images of a batch; call it before the forward pass."""
        if not self.paths and self.saved:  # the step's first batch
            torch._foreach_copy_(self.saved, self.buffers)
        self.paths += [str(m.path) for m in meta]

    def finite(self, loss: Tensor) -> Tensor:
        """Return whether the batch's loss is finite; if it is not, its step is bad."""
        finite = loss.detach().isfinite()
        self.bad = self.bad | ~finite
        return finite

    def is_bad_step(self, norm: Tensor) -> Tensor:
        """Return whether the step must be skipped; if so, restore the buffers.

        Args:
            norm: of the step's gradient.
        """
        bad = self.bad | ~norm.isfinite()
        for buffer, saved in zip(self.buffers, self.saved, strict=True):
            torch.where(bad, saved, buffer, out=buffer)
        self.recent.append((bad, self.paths))
        self.bad, self.paths = torch.zeros_like(bad), []
        return bad

    def report(self, step: int) -> None:
        """Print which steps since the last report were skipped; `step` is the newest of them.

        Raises:
            Diverged: `limit` steps in a row were skipped.
        """
        if not self.recent:
            return
        flags = torch.stack([bad for bad, _ in self.recent]).tolist()
        first = step - len(flags) + 1
        for number, (bad, (_, paths)) in enumerate(zip(flags, self.recent, strict=True), first):
            self.bad_in_a_row = self.bad_in_a_row + 1 if bad else 0
            if bad:  # in every process alike: loss and gradient are means over the processes
                paths = all_gather(paths)
                info(f"step {number} skipped, its loss or gradient is not finite: {_few(paths)}")
            if self.bad_in_a_row >= self.limit:
                raise Diverged(
                    f"step {number}: the loss or its gradient is not finite "
                    f"{self.bad_in_a_row} times in a row, the last time over {_few(paths)}; "
                    "look at these images and their boxes, lower optimizer.lr, or set "
                    "trainer.precision=fp32"
                )
        self.recent.clear()

    def state(self) -> dict[str, Any]:
        """Return how many bad steps in a row there are, steps not yet reported included."""
        row = self.bad_in_a_row
        for bad, _ in self.recent:
            row = row + 1 if bool(bad) else 0
        return {"row": row}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to a saved state and forget the steps since then."""
        self.bad_in_a_row = saved["row"]
        self.recent.clear()
        self.bad, self.paths = torch.zeros_like(self.bad), []


def _few(paths: list[str]) -> str:
    more = f" and {len(paths) - 8} more" if len(paths) > 8 else ""
    return ", ".join(paths[:8]) + more


def guarded_step(optimizer: Optimizer, bad: Tensor) -> None:
    """Take a step of the optimizer; where `bad` is set, no weight changes.

    Fused optimizers read the flag on the device, by the attributes that a gradient scaler sets. The
    others, and fused momentum before its first step, need it on the CPU.
    """
    has_begun = bool(optimizer.state) or not optimizer.defaults.get("momentum")
    if optimizer.defaults.get("fused") and has_begun:
        optimizer.grad_scale, optimizer.found_inf = None, bad.float()  # type: ignore[attr-defined]
    elif bad:
        optimizer.zero_grad()  # a step without gradients
    optimizer.step()
