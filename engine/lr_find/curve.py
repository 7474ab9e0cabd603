"""The loss over a rising learning rate, and what it suggests; see `engine.lr_find`."""

import copy
import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from engine.builders import parts
from engine.builders.run import prepare
from engine.errors import Diverged, UserError
from engine.output.run_log import Silent
from engine.training.loop import train_epoch
from engine.training.run import Clock, Progress, Run
from engine.training.seed import seed_everything

MEMORY = 0.9  # of the running mean that judges divergence
DIVERGED = 3.0  # times the least running mean
BOTTOM = 0.1  # of the fall of the loss
NOISE = 4.0  # standard errors that a fall exceeds: one flat curve of 200 steps in 1000 does
LEAST_FALL = 0.01  # of the first loss
WIDTH = 0.04  # standard deviation of the smoothing, in shares of the planned steps


@dataclass
class Curve:
    """Learning rates and the mean loss of the step that each was used in, [N] both."""

    rates: np.ndarray
    losses: np.ndarray
    planned: int  # steps, had the loss not diverged

    @property
    def smoothed(self) -> np.ndarray:
        """[N], by a Gaussian over the steps: unlike a running mean it lags behind nothing."""
        return self._weights() @ self.losses

    def _weights(self) -> np.ndarray:
        """[N, N], of each loss in each smoothed one."""
        place = np.arange(len(self.losses))
        away = (place[:, None] - place) / max(WIDTH * self.planned, 1e-9)
        weight = np.exp(-(away**2) / 2)
        return weight / weight.sum(1, keepdims=True)

    @property
    def falls(self) -> bool:
        """Whether the loss comes down from its start by more than noise could make it.

        The noise of a step is read off the second differences, which a slope leaves alone: their
        median is 0.6745 standard deviations, each of sqrt(1 + 4 + 1) steps' noise.
        """
        weights, loss = self._weights(), self.smoothed
        noise = np.median(np.abs(np.diff(self.losses, 2))) / (0.6745 * 6**0.5)
        error = noise * np.linalg.norm(weights[0] - weights[loss.argmin()])
        return bool(loss[0] - loss.min() > max(NOISE * error, LEAST_FALL * abs(loss[0])))

    def suggestions(self) -> dict[str, float]:
        """Rates by name.

        steepest: where the loss falls fastest over the logarithm of the rate.
        valley: the middle of the longest descent.
        minimum / 10: a tenth of the rate of the least loss.
        peak: the last rate before the loss rises from the bottom, by a tenth of how far it fell;
            for schedules that rise to their rate and leave it again, as one_cycle and triangular
            do (max_lr of arXiv 1506.01186, 3.3).
        """
        loss = self.smoothed
        steepest = np.gradient(loss, np.log(self.rates)).argmin()
        first, last = descent(loss)
        low = loss <= loss.min() + BOTTOM * (loss[0] - loss.min())
        return {
            "steepest": float(self.rates[steepest]),
            "valley": float(self.rates[(first + last) // 2]),
            "minimum / 10": float(self.rates[loss.argmin()] / 10),
            "peak": float(self.rates[np.flatnonzero(low)[-1]]),
        }

    def summary_text(self) -> str:
        """The suggestions to read, and a warning where the loss does not fall."""
        steps = f"{len(self.rates)} steps, rates {self.rates[0]:.2g} to {self.rates[-1]:.2g}"
        ended = "; there the loss diverged" if len(self.rates) < self.planned else ""
        lines = [f"{name:>12}: optimizer.lr={x:.2g}" for name, x in self.suggestions().items()]
        return "\n".join([f"{steps}{ended}", *self._doubts(), *lines])

    def _doubts(self) -> list[str]:
        loss = self.smoothed
        doubts = (
            f"the curve shows no fall: the loss starts at {loss[0]:.4g} and its least, "
            f"{loss.min():.4g}, is not clear of its noise. Do not trust these rates; say a smaller "
            "least= if it rises, more steps= or a larger most= if it is flat"
        )
        return [] if self.falls else [doubts]

    def write(self, folder: Path) -> None:
        """lr_find.csv and lr_find.png."""
        with open(folder / "lr_find.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("lr", "loss", "smoothed"))
            writer.writerows(zip(self.rates, self.losses, self.smoothed, strict=True))
        # Half a second; no pyplot, which keeps every figure.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 5), dpi=100, layout="constrained")
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.plot(self.rates, self.losses, color="0.8")
        axes.plot(self.rates, self.smoothed)
        for number, (name, rate) in enumerate(self.suggestions().items(), 1):
            axes.axvline(rate, color=f"C{number}", label=f"{name} {rate:.2g}")
        axes.set_ylim(0, 2 * self.smoothed[0])  # or the last losses leave nothing to be seen
        axes.legend()
        figure.savefig(folder / "lr_find.png")


def descent(losses: np.ndarray) -> tuple[int, int]:
    """First and last step of the longest series of falling losses, others lying between them."""
    length, first = np.ones(len(losses), int), np.arange(len(losses))
    for i in range(1, len(losses)):
        higher = np.flatnonzero(losses[:i] > losses[i])
        if len(higher):
            before = higher[length[higher].argmax()]
            length[i], first[i] = length[before] + 1, first[before]
    last = int(length.argmax())
    return int(first[last]), last


def start(cfg: DictConfig) -> tuple[Run, Any]:
    """A run at its first step, as train.py would begin it, and its training loader."""
    device = parts.device(cfg.device)
    parts.check_all(cfg)
    seed_everything(cfg.seed)
    backbone = parts.backbone(cfg)
    loader = parts.loader(cfg, parts.dataset(cfg, "train"), device, shuffle=True)
    network = parts.network(cfg, len(loader.dataset.classes), backbone)
    return prepare(cfg, network, len(loader), device), loader


def find(run: Run, loader: Any, *, steps: int, least: float, most: float) -> Curve:
    """Train while the rate rises from `least` to `most`; afterwards the run is as it was.

    Raises:
        UserError: the loss diverges before a curve can be made.
    """
    saved, clock = copy.deepcopy(run.state()), run.clock
    run.clock = Clock(steps + 1, None)  # the run's own may end before
    rates = np.geomspace(least, most, steps)
    losses: list[float] = []
    try:
        losses.extend(_until_diverged(_losses(run, loader, rates)))
    except Diverged:  # gradients that are not finite
        pass
    finally:
        run.clock = clock
        run.restore(saved, "lr_find")
    if len(losses) < 3:
        raise UserError(
            f"the loss diverges at step {len(losses) + 1}, rate {rates[len(losses)]:.2g}: say a "
            "smaller least=, or more steps="
        )
    return Curve(rates[: len(losses)], np.array(losses), steps)


def _until_diverged(losses: Iterable[float]) -> Iterator[float]:
    """The losses up to where their running mean is far above its least, or one is not finite."""
    mean, least = 0.0, inf
    for number, loss in enumerate(losses, 1):
        mean = MEMORY * mean + (1 - MEMORY) * loss
        now = mean / (1 - MEMORY**number)
        if not isfinite(loss) or now > DIVERGED * least:
            return
        least = min(least, now)
        yield loss


def _losses(run: Run, loader: Any, rates: np.ndarray) -> Iterator[float]:
    """The mean loss of a step at each rate; NaN where it is not finite."""
    peak = max(group["initial_lr"] for group in run.optimizer.param_groups)
    steps = _steps(run, loader)
    for rate in rates:
        for group in run.optimizer.param_groups:
            group["lr"] = float(rate) * group["initial_lr"] / peak
        run.progress.losses.clear()
        next(steps)
        terms = {key: float(value) for key, value in run.progress.losses.items()}
        count = terms.pop("count")
        yield sum(terms.values()) / count if count else nan


def _steps(run: Run, loader: Any) -> Iterator[None]:
    """A pause after every step, epoch after epoch."""
    while True:
        yield from train_epoch(run, loader, Silent())
        run.epoch, run.progress = run.epoch + 1, Progress()
