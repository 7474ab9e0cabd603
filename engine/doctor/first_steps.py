"""The findings of a run's first ten steps: its rate, and whether its clock is enough."""

import time

import torch
from omegaconf import DictConfig
from torch import Tensor

from engine.console import warn
from engine.distributed.processes import rank_zero_only
from engine.finding import Finding
from engine.training.run import Run

STEPS = 10  # that are watched, of the first epoch
TIMED = 3  # steps before the clock is read: the first ones wait for the loader and for compilation
# lr_find calls a running mean of three times its least value diverged; a mean of three batches is
# noisier. A loss that was 20 times the first has left it, even where dead units are calm now.
LAST, RISEN, PEAK = 3, 4.0, 20.0
LEAST = (
    1.0  # that the first loss counts as: of a batch without objects, or of good weights, it is ~0
)
ENDS = 1 / 2  # of the epochs, those that the clock allows
FEW = 3  # epochs that a clock alone should allow


class FirstSteps:
    """Watches a run from outside: call `watch` after every step; the tenth reads the device once.

    Args:
        run: at its first step; one that was resumed is not watched.
        trainer: the configuration's part.
        steps: of an epoch; a shorter one ends the watch with it.
    """

    def __init__(self, run: Run, trainer: DictConfig, steps: int) -> None:
        self.run, self.trainer, self.steps, self.last = run, trainer, steps, min(STEPS, steps)
        self.sums: list[Tensor] = []  # after each step the sum of its losses, and of how many
        self.since: tuple[int, float] | None = None  # step and seconds
        self.is_watching = not run.clock.step

    def watch(self) -> None:
        """Remember a step, and at the last one print what is wrong."""
        if not self.is_watching:
            return
        terms = dict(self.run.progress.losses)
        count = terms.pop("count")
        self.sums.append(torch.stack([torch.stack([*terms.values()]).sum(), count]))
        if self.run.clock.step <= TIMED:
            self.since = self.run.clock.step, time.perf_counter()
        if self.run.clock.step >= self.last:
            self.is_watching = False
            self._report()

    @rank_zero_only
    def _report(self) -> None:
        sums = torch.stack(self.sums).cpu().double()  # [N, 2]
        steps = torch.diff(sums, dim=0, prepend=torch.zeros(1, 2))
        losses = (steps[:, 0] / steps[:, 1]).tolist()  # NaN where a step was skipped
        rate = max(group["initial_lr"] for group in self.run.optimizer.param_groups)
        warn([*of_rate(losses, rate), *self._of_clock()])

    def _of_clock(self) -> list[Finding]:
        """Whether the minutes end the run before half of its epochs, as fast as they are now.

        Or, where they alone end it, before a few epochs.
        """
        clock, now = self.run.clock, time.perf_counter()
        if not clock.minutes or self.since is None or clock.step <= self.since[0]:
            return []
        a_step = (now - self.since[1]) / (clock.step - self.since[0])
        possible = clock.step + (60 * clock.minutes - clock.seconds) / a_step
        epochs, planned = possible / self.steps, self.trainer.epochs
        if epochs >= (FEW if planned is None else ENDS * planned):
            return []
        of, other = (
            ("", "image_size") if planned is None else (f" of its {planned}", "trainer.epochs")
        )
        return [
            Finding(
                f"at {1000 * a_step:.0f} ms a step the clock ends this run after about "
                f"{epochs:.2g}{of} epochs, evaluations aside",
                f"trainer.minutes={clock.minutes:g}: raise it, or lower {other}",
            )
        ]


def of_rate(losses: list[float], rate: float) -> list[Finding]:
    """Return whether the losses [N] of the first steps rise, or are NaN where they were skipped."""
    finite = [loss for loss in losses if loss == loss]  # NaN is not itself
    skipped = len(losses) - len(finite)
    remedy = "lower optimizer.lr, or find one: python -m engine.lr_find"
    if skipped >= 2:  # one may be an image's
        what = f"the loss of {skipped} of the first {len(losses)} steps is not finite"
        return [Finding(f"{what} at optimizer.lr={rate:g}", remedy)]
    if len(finite) <= LAST:
        return []
    first, last, peak = max(finite[0], LEAST), sum(finite[-LAST:]) / LAST, max(finite)
    if last <= RISEN * first and peak <= PEAK * first:
        return []
    what = f"the loss rises from {finite[0]:.3g} to {max(last, peak):.3g} in {len(losses)} steps"
    return [Finding(f"{what} at optimizer.lr={rate:g}", remedy)]
