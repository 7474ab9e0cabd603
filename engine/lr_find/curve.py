"""The loss over a rising learning rate, and the rates it suggests; see `engine.lr_find`."""

import copy
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from engine.builders import parts
from engine.builders.fit import fit
from engine.builders.run import prepare
from engine.errors import Diverged, UserError
from engine.output.run_log import Silent
from engine.output.table import format_csv
from engine.training.loop import train_epoch
from engine.training.run import Clock, Progress, Run
from engine.training.seed import seed_everything
from engine.whole_file import write_whole

MEMORY = 0.9  # momentum of the running mean that detects divergence
DIVERGED = 3.0  # diverged: the running mean is this many times its least value
BOTTOM = 0.1  # the bottom of the curve: this share of its fall above the least loss
NOISE = 4.0  # standard errors a fall must exceed; one in 1000 flat curves of 200 steps does
LEAST_FALL = 0.01  # and this share of the first loss
WIDTH = 0.04  # standard deviation of the smoothing, as a share of the planned steps


@dataclass
class Curve:
    """Learning rates, and the mean loss of the step that used each."""

    rates: np.ndarray  # [N]
    losses: np.ndarray  # [N]
    planned: int  # steps if the loss had not diverged

    @property
    def smoothed(self) -> np.ndarray:
        """[N] losses smoothed by a Gaussian, which adds no lag, unlike a running mean."""
        return self._weights() @ self.losses

    def _weights(self) -> np.ndarray:
        """[N, N], the weight of each loss (column) in each smoothed loss (row)."""
        step = np.arange(len(self.losses))
        distance = (step[:, None] - step) / max(WIDTH * self.planned, 1e-9)
        weight = np.exp(-(distance**2) / 2)
        return weight / weight.sum(1, keepdims=True)

    @property
    def falls(self) -> bool:
        """Whether the loss falls below its start by more than noise explains.

        The noise of a step is estimated from the second differences, which a constant slope does
        not change: their median size is 0.6745 * sqrt(1 + 4 + 1) standard deviations of the noise.
        """
        weights, loss = self._weights(), self.smoothed
        noise = np.median(np.abs(np.diff(self.losses, 2))) / (0.6745 * 6**0.5)
        error = noise * np.linalg.norm(weights[0] - weights[loss.argmin()])
        return bool(loss[0] - loss.min() > max(NOISE * error, LEAST_FALL * abs(loss[0])))

    def suggestions(self) -> dict[str, float]:
        """Suggested rates by name.

        steepest: where the loss falls fastest over the logarithm of the rate.
        valley: the middle of the longest descent.
        minimum / 10: a tenth of the rate of the least loss.
        peak: the last rate before the loss rises by a tenth of its fall above its least; for
            schedules that rise to their largest rate and fall again, as one_cycle and triangular
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

    def summary_lines(self) -> list[str]:
        """The suggestions as lines to print, and a warning if the loss does not fall."""
        steps = f"{len(self.rates)} steps, rates {self.rates[0]:.2g} to {self.rates[-1]:.2g}"
        ended = "; there the loss diverged" if len(self.rates) < self.planned else ""
        lines = [f"{name:>12}: optimizer.lr={x:.2g}" for name, x in self.suggestions().items()]
        return [f"{steps}{ended}", *self._warnings(), *lines]

    def _warnings(self) -> list[str]:
        loss = self.smoothed
        warning = (
            f"the curve shows no fall: the loss starts at {loss[0]:.4g}, and its least, "
            f"{loss.min():.4g}, is within the noise. Do not trust these rates; pass a smaller "
            "least= if it rises, more steps= or a larger most= if it is flat"
        )
        return [] if self.falls else [warning]

    def write(self, folder: Path) -> None:
        """Write lr_find.csv and lr_find.png to the folder."""
        columns = {"lr": self.rates, "loss": self.losses, "smoothed": self.smoothed}
        write_whole(
            folder / "lr_find.csv", format_csv(list(columns), zip(*columns.values(), strict=True))
        )
        # Imported here as it takes half a second; not pyplot, which keeps every figure in memory.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 5), dpi=100, layout="constrained")
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.plot(self.rates, self.losses, color="0.8")
        axes.plot(self.rates, self.smoothed)
        for number, (name, rate) in enumerate(self.suggestions().items(), 1):
            axes.axvline(rate, color=f"C{number}", label=f"{name} {rate:.2g}")
        axes.set_ylim(0, 2 * self.smoothed[0])  # else diverged losses flatten the curve
        axes.legend()
        content = io.BytesIO()
        figure.savefig(content)
        write_whole(folder / "lr_find.png", content.getvalue())


def descent(losses: np.ndarray) -> tuple[int, int]:
    """First and last step of the longest falling subsequence of the losses."""
    length, first = np.ones(len(losses), int), np.arange(len(losses))
    for i in range(1, len(losses)):
        higher = np.flatnonzero(losses[:i] > losses[i])
        if len(higher):
            before = higher[length[higher].argmax()]
            length[i], first[i] = length[before] + 1, first[before]
    last = int(length.argmax())
    return int(first[last]), last


def start(cfg: DictConfig) -> tuple[Run, Any]:
    """A run before its first step, as train.py starts it, and its training loader."""
    device = parts.device(cfg.device)
    parts.check_all(cfg)
    seed_everything(cfg.seed)
    backbone, data = parts.backbone(cfg, fits=True), parts.dataset(cfg, "train")
    fit(cfg, data, backbone, device)
    loader = parts.loader(cfg, data, device, shuffle=True)
    network = parts.network(cfg, len(loader.dataset.classes), backbone)
    return prepare(cfg, network, len(loader), device), loader


def find(run: Run, loader: Any, *, steps: int, least: float, most: float) -> Curve:
    """Train while the rate rises from `least` to `most`, then restore the run's state.

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
            f"the loss diverges at step {len(losses) + 1}, rate {rates[len(losses)]:.2g}: pass a "
            "smaller least=, or more steps="
        )
    return Curve(rates[: len(losses)], np.array(losses), steps)


def _until_diverged(losses: Iterable[float]) -> Iterator[float]:
    """The losses until one is not finite or their running mean is far above its least value."""
    mean, least = 0.0, inf
    for number, loss in enumerate(losses, 1):
        mean = MEMORY * mean + (1 - MEMORY) * loss
        now = mean / (1 - MEMORY**number)
        if not isfinite(loss) or now > DIVERGED * least:
            return
        least = min(least, now)
        yield loss


def _losses(run: Run, loader: Any, rates: np.ndarray) -> Iterator[float]:
    """The mean loss of a training step at each rate; NaN if no loss of the step was finite."""
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
    """Train epoch after epoch; yields after every step."""
    while True:
        yield from train_epoch(run, loader, Silent())
        run.epoch, run.progress = run.epoch + 1, Progress()
