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

    def plateau_factor(self, stale: int) -> float:
        """After an evaluation, `stale` of them since the best: a factor of all later rates."""
        return 1.0


class Plateau(Constant):
    """Times `gamma` after every `patience` evaluations in a row without a better one."""

    def __init__(self, *, patience: int = 3, gamma: float = 0.1, warmup: float = 0.0) -> None:
        super().__init__(warmup=warmup)
        if patience < 1 or not 0 < gamma <= 1:
            raise UserError(
                f"schedule.patience={patience}, gamma={gamma}: expected at least 1 evaluation, and "
                "a factor in 0..1"
            )
        self.patience, self.gamma = patience, gamma

    def plateau_factor(self, stale: int) -> float:
        """Gamma at the end of patience, else 1."""
        return self.gamma if stale and stale % self.patience == 0 else 1.0


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


class Restarts(Cosine):
    """Cycles of `Cosine`, each `cycle_mult` times as long as the one before (arXiv 1608.03983, 3).

    The run is `cycles` of them: with 3 cycles and cycle_mult=2 they take 1/7, 2/7 and 4/7 of it.
    fast.ai's cycle_len is the first one's length, which follows from these.
    """

    def __init__(
        self, *, cycles: int = 3, cycle_mult: float = 2.0, final: float = 0.01, warmup: float = 0.0
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
        """The cosine of the cycle that is going on."""
        for length in self.lengths:
            if done < length:
                return super().after(done / length)
            done -= length
        return self.final


class Triangular(Constant):
    """Up from 1 / `div` to 1 in the first 1 / `cut_div` of a cycle, then down again, both straight.

    fast.ai's use_clr=(div, cut_div), the slanted triangle of arXiv 1801.06146, 3.2; with cut_div=2
    the cycles of arXiv 1506.01186, 3.1.
    """

    def __init__(
        self, *, div: float = 32.0, cut_div: float = 8.0, cycles: int = 1, warmup: float = 0.0
    ) -> None:
        super().__init__(warmup=warmup)
        if div < 1 or cut_div <= 1 or cycles < 1:
            raise UserError(
                f"schedule.div={div}, cut_div={cut_div}, cycles={cycles}: expected at least 1, "
                "more than 1, and at least 1"
            )
        self.div, self.cut, self.cycles = div, 1 / cut_div, cycles

    def after(self, done: float) -> float:
        """Straight up, straight down."""
        place = done * self.cycles % 1 if done < 1 else 1.0
        height = place / self.cut if place < self.cut else (1 - place) / (1 - self.cut)
        return (1 + (self.div - 1) * height) / self.div


class Polynomial(Constant):
    """(1 - done) to the power `power`, down to `final` (arXiv 1506.04579, 3.2)."""

    def __init__(self, *, power: float = 0.9, final: float = 0.0, warmup: float = 0.0) -> None:
        super().__init__(warmup=warmup)
        if power <= 0:
            raise UserError(f"schedule.power={power}: expected more than 0")
        self.power, self.final = power, final

    def after(self, done: float) -> float:
        """Down from 1 to `final`."""
        return self.final + (1 - self.final) * (1 - min(done, 1.0)) ** self.power


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
