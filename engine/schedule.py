"""Learning-rate schedules: from the share of the run that is done to a factor of `optimizer.lr`.

Every schedule starts with a linear warm-up over the first `warmup` share of the run. Shares rather
than steps, so that a run ends annealed whether epochs or `trainer.minutes` end it.
"""

from collections.abc import Sequence
from math import cos, pi

from engine.errors import UserError


class Constant:
    """The full rate all the way."""

    def __init__(self, *, warmup: float = 0.0) -> None:
        if not 0 <= warmup <= 1:
            raise UserError(f"schedule.warmup={warmup}: expected a share of the run, 0 to 1")
        self.warmup = warmup

    def __call__(self, done: float) -> float:
        """`done` in 0..1 -> factor in 0..1."""
        if done < self.warmup:
            return 0.01 + 0.99 * done / self.warmup
        return self.after((done - self.warmup) / max(1 - self.warmup, 1e-9))

    def after(self, done: float) -> float:
        """The factor when a share `done` of the run after the warm-up is over."""
        return 1.0


class Step(Constant):
    """Times `gamma` at each of the milestones, shares of the run after the warm-up."""

    def __init__(
        self, *, milestones: Sequence[float], gamma: float = 0.1, warmup: float = 0.0
    ) -> None:
        super().__init__(warmup=warmup)
        self.milestones, self.gamma = milestones, gamma

    def after(self, done: float) -> float:
        """One factor of gamma for each milestone passed."""
        return self.gamma ** sum(done >= m for m in self.milestones)


class Cosine(Constant):
    """Half a cosine from 1 down to `final` (arXiv 1608.03983, without restarts)."""

    def __init__(self, *, final: float = 0.01, warmup: float = 0.0) -> None:
        super().__init__(warmup=warmup)
        self.final = final

    def after(self, done: float) -> float:
        """The cosine between 1 and `final`."""
        return self.final + (1 - self.final) * (1 + cos(pi * min(done, 1.0))) / 2


class OneCycle(Cosine):
    """Up by half a cosine from 1 / `div` to 1 during `warmup`, then down (arXiv 1708.07120)."""

    def __init__(self, *, div: float = 25.0, final: float = 1e-4, warmup: float = 0.3) -> None:
        super().__init__(final=final, warmup=warmup)
        self.div = div

    def __call__(self, done: float) -> float:
        """`done` in 0..1 -> factor in 0..1."""
        if done < self.warmup:
            return 1 - (1 - 1 / self.div) * (1 + cos(pi * done / self.warmup)) / 2
        return super().__call__(done)
