"""Learning-rate schedules: functions from the share of the run that is done to a factor.

The factor multiplies `optimizer.lr`. Every schedule starts with a linear warm-up over the first
`warmup` share of the run. Shares rather than steps, so that the rate is annealed at the end of a
run whether `trainer.epochs` or `trainer.minutes` ends it.
"""

from collections.abc import Sequence
from math import cos, pi
from typing import Annotated

from engine.config.ranges import Count, PositiveShare, Range, Share
from engine.errors import UserError

Cycles = Annotated[int, Range(1, 100)]


class Constant:
    """The full rate throughout, after the warm-up."""

    def __init__(self, *, warmup: Share = 0.0) -> None:
        if not 0 <= warmup <= 1:
            raise UserError(f"schedule.warmup={warmup}: expected a share of the run, 0 to 1")
        self.warmup = warmup

    def __call__(self, done: float) -> float:
        """Return the factor in 0..1 when a share `done` in 0..1 of the run is done."""
        if done < self.warmup:
            return 0.01 + 0.99 * done / self.warmup
        return self.after((done - self.warmup) / max(1 - self.warmup, 1e-9))

    def after(self, done: float) -> float:
        """Return the factor when a share `done` of the run after the warm-up is done."""
        return 1.0

    def plateau_factor(self, stale: int) -> float:
        """Return a factor of all later rates, given `stale` evaluations since the best one."""
        return 1.0


class Plateau(Constant):
    """The rate times `gamma` after every `patience` evaluations without a new best."""

    def __init__(
        self, *, patience: Count = 3, gamma: PositiveShare = 0.1, warmup: Share = 0.0
    ) -> None:
        super().__init__(warmup=warmup)
        if patience < 1 or not 0 < gamma <= 1:
            raise UserError(
                f"schedule.patience={patience}, gamma={gamma}: expected at least 1 evaluation, and "
                "a factor in 0..1"
            )
        self.patience, self.gamma = patience, gamma

    def plateau_factor(self, stale: int) -> float:
        """Return `gamma` at every `patience`-th evaluation since the best one, else 1."""
        return self.gamma if stale and stale % self.patience == 0 else 1.0


class Step(Constant):
    """The rate times `gamma` at each milestone, a share of the run after the warm-up."""

    def __init__(
        self, *, milestones: Sequence[Share], gamma: PositiveShare = 0.1, warmup: Share = 0.0
    ) -> None:
        super().__init__(warmup=warmup)
        self.milestones, self.gamma = milestones, gamma

    def after(self, done: float) -> float:
        """Return `gamma` to the power of the milestones passed."""
        return self.gamma ** sum(done >= m for m in self.milestones)


class Cosine(Constant):
    """Half a cosine from 1 down to `final` (arXiv 1608.03983, without restarts)."""

    def __init__(self, *, final: Share = 0.01, warmup: Share = 0.0) -> None:
        super().__init__(warmup=warmup)
        self.final = final

    def after(self, done: float) -> float:
        """Return the cosine between 1 and `final`."""
        return self.final + (1 - self.final) * (1 + cos(pi * min(done, 1.0))) / 2


class Restarts(Cosine):
    """Cycles of `Cosine`, each `cycle_mult` times as long as the one before (arXiv 1608.03983, 3).

    `cycles` of them fill the run: with 3 cycles and cycle_mult=2 they take 1/7, 2/7 and 4/7 of it.
    The length of the first one, fast.ai's cycle_len, follows from these.
    """

    def __init__(
        self,
        *,
        cycles: Cycles = 3,
        cycle_mult: Annotated[float, Range(0.01, 100)] = 2.0,
        final: Share = 0.01,
        warmup: Share = 0.0,
    ) -> None:
        super().__init__(final=final, warmup=warmup)
        if cycles < 1 or cycle_mult <= 0:
            raise UserError(
                f"schedule.cycles={cycles}, cycle_mult={cycle_mult}: expected at least 1 cycle, "
                "and a factor above 0"
            )
        lengths = [cycle_mult**n for n in range(cycles)]
        self.lengths = [length / sum(lengths) for length in lengths]

    def after(self, done: float) -> float:
        """Return the cosine of the current cycle."""
        for length in self.lengths:
            if done < length:
                return super().after(done / length)
            done -= length
        return self.final


class Triangular(Constant):
    """Linear from 1 / `div` up to 1 in the first 1 / `cut_div` of a cycle, then linear down again.

    fast.ai's use_clr=(div, cut_div), the slanted triangle of arXiv 1801.06146, 3.2; with cut_div=2
    the cycles of arXiv 1506.01186, 3.1.
    """

    def __init__(
        self,
        *,
        div: Annotated[float, Range(1, 10**6)] = 32.0,
        cut_div: Annotated[float, Range(1, 1000, "(]")] = 8.0,
        cycles: Cycles = 1,
        warmup: Share = 0.0,
    ) -> None:
        super().__init__(warmup=warmup)
        if div < 1 or cut_div <= 1 or cycles < 1:
            raise UserError(
                f"schedule.div={div}, cut_div={cut_div}, cycles={cycles}: expected at least 1, "
                "more than 1, and at least 1"
            )
        self.div, self.cut, self.cycles = div, 1 / cut_div, cycles

    def after(self, done: float) -> float:
        """Return the factor on the rising or falling line of the current cycle."""
        x = done * self.cycles % 1 if done < 1 else 1.0  # share of the cycle
        height = x / self.cut if x < self.cut else (1 - x) / (1 - self.cut)
        return (1 + (self.div - 1) * height) / self.div


class Polynomial(Constant):
    """(1 - done) to the power `power`, down to `final` (arXiv 1506.04579, 3.2)."""

    def __init__(
        self,
        *,
        power: Annotated[float, Range(0, 100, "(]")] = 0.9,
        final: Share = 0.0,
        warmup: Share = 0.0,
    ) -> None:
        super().__init__(warmup=warmup)
        if power <= 0:
            raise UserError(f"schedule.power={power}: expected more than 0")
        self.power, self.final = power, final

    def after(self, done: float) -> float:
        """Return the polynomial, from 1 down to `final`."""
        return self.final + (1 - self.final) * (1 - min(done, 1.0)) ** self.power


class OneCycle(Cosine):
    """A cosine from 1 / `div` up to 1 during `warmup`, then down to `final` (arXiv 1708.07120)."""

    def __init__(
        self,
        *,
        div: Annotated[float, Range(1, 10**6)] = 25.0,
        final: Share = 1e-4,
        warmup: Share = 0.3,
    ) -> None:
        super().__init__(final=final, warmup=warmup)
        self.div = div

    def __call__(self, done: float) -> float:
        """Return the factor in 0..1 when a share `done` in 0..1 of the run is done."""
        if done < self.warmup:
            return 1 - (1 - 1 / self.div) * (1 + cos(pi * done / self.warmup)) / 2
        return super().__call__(done)
