"""The state of a training run: everything that changes, to be saved and restored."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from engine.config.schema import Compression, Precision
from engine.distributed import fsdp, processes
from engine.distributed.ddp import Replica
from engine.network import Network
from engine.training import saved_state
from engine.training.finetune import Finetune
from engine.training.guard import Guard, guarded_step
from engine.training.optimizer import match_state_layout
from engine.training.seed import random_states, restore
from engine.training.statistics import BatchStatistics
from engine.weights import checkpoint


@dataclass
class Clock:
    """How much of the run is done: the larger share of its steps and of its budget of minutes."""

    total_steps: float  # infinite where the minutes alone end it
    minutes: float | None
    step: int = 0
    before: float = 0.0  # seconds of the run before it was resumed
    started: float = field(default_factory=time.perf_counter)
    resumed: int = 0  # the step at which this process began

    @property
    def seconds(self) -> float:
        """Seconds trained, those before a resume included."""
        return self.before + time.perf_counter() - self.started

    @property
    def done(self) -> float:
        """Share of the run in 0..1."""
        # one clock for all processes: with their own they would stop at different steps
        seconds = processes.broadcast_from_rank_zero(lambda: self.seconds) if self.minutes else 0.0
        budget = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(max(self.step / self.total_steps, budget), 1.0)

    @property
    def left(self) -> float | None:
        """Seconds until the run ends, as this process's steps took so far; None before the first.

        For messages: each process has its own estimate.
        """
        taken = self.step - self.resumed
        ends = [60 * self.minutes - self.seconds] if self.minutes else []
        if taken:
            a_step = (time.perf_counter() - self.started) / taken
            ends.append(a_step * (self.total_steps - self.step))
        return max(min(ends), 0.0) if ends else None


@dataclass
class Progress:
    """Position in the current epoch, and the sums behind its means, which stay on the device.

    Batches whose loss is not finite and skipped steps are left out of the means.
    """

    batches: int = 0
    steps: int = 0
    losses: dict[str, Tensor] = field(default_factory=dict)  # sums over batches, and their "count"
    norms: dict[str, Tensor] = field(default_factory=dict)  # sums over steps, and their "count"

    def add_losses(self, values: dict[str, Tensor], finite: Tensor) -> None:
        """Add the loss terms of one batch."""
        _add(self.losses, values, finite)

    def add_step(self, norm: Tensor, clipped: Tensor, skipped: Tensor) -> None:
        """Add one step: its gradient norm before clipping, whether it was clipped, or skipped."""
        self.steps += 1
        _add(self.norms, {"grad_norm": norm, "clipped": clipped}, ~skipped)

    def means(self) -> dict[str, float]:
        """Return mean loss terms, mean gradient norm, share of steps clipped, number of skipped."""
        losses, norms = _means(self.losses), _means(self.norms)
        skipped = self.steps - norms.pop("count", 0.0)
        losses.pop("count", None)
        row = losses | norms | {"skipped": skipped}
        return {f"train/{key}": value for key, value in row.items()}


def _add(sums: dict[str, Tensor], values: dict[str, Tensor], counts: Tensor) -> None:
    """Sum on the device; reading a value there would stall the step."""
    for key, value in {"count": torch.ones_like(counts, dtype=torch.float32), **values}.items():
        value = torch.where(counts, value.detach().float(), 0.0)
        sums[key] = sums[key] + value if key in sums else value


def _means(sums: dict[str, Tensor]) -> dict[str, float]:
    count = float(sums["count"]) if sums else 0.0
    return {k: float(v) / max(count, 1.0) for k, v in sums.items()} | {"count": count}


@dataclass
class Run:
    """Everything that changes while a run trains, and the parts that change it."""

    network: Network
    ema: AveragedModel | None
    optimizer: Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler
    clip: Any
    finetune: Finetune
    guard: Guard
    clock: Clock
    device: torch.device
    precision: Precision
    accumulate: int = 1
    compression: Compression | None = None  # of gradients that processes exchange
    plateau_factor: Callable[[int], float] = lambda stale: 1.0  # a factor of all later rates
    mark: Any = lambda part: None  # called at the end of each part of a step, see StepTimer
    epoch: int = 0  # finished epochs
    progress: Progress = field(default_factory=Progress)  # of the current epoch
    best: float = float("-inf")
    stale: int = 0  # evaluations since the best one
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.statistics = BatchStatistics(self.network)
        self.replica = Replica(self.network, self.compression)

    @property
    def evaluated(self) -> Network:
        """The network to evaluate: the moving average if there is one."""
        return self.network if self.ema is None else self.ema.module  # type: ignore[return-value]

    @property
    def rate(self) -> float:
        """The largest learning rate at present."""
        return max(group["lr"] for group in self.optimizer.param_groups)

    def step(self, bad: Tensor) -> None:
        """Step the optimizer, the average and the schedule; where `bad` is set, weights stay."""
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            guarded_step(self.optimizer, bad)
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update_parameters(self.network)
        self.clock.step += 1
        self.schedule.step()

    def end_epoch(self, row: dict[str, float], value: float | None) -> bool:
        """Finish an epoch and return whether it is the best.

        Args:
            row: its numbers, for the history.
            value: its primary metric; None where it was not evaluated.
        """
        self.epoch, self.progress = self.epoch + 1, Progress()
        self.history.append(row)
        if value is None:
            return False
        better = value > self.best
        self.best, self.stale = (value, 0) if better else (self.best, self.stale + 1)
        self._scale_rates(self.plateau_factor(self.stale))
        return better

    def _scale_rates(self, factor: float) -> None:
        """Multiply all learning rates from now on; the schedule's state keeps the factor."""
        self.schedule.base_lrs = [rate * factor for rate in self.schedule.base_lrs]
        for group in self.optimizer.param_groups:
            group["lr"] *= factor

    def state(self) -> dict[str, Any]:
        """Return the state between two steps: plain tensors, numbers, strings, lists and dicts."""
        return fsdp.unshard_state(
            {
                "model": self.network.state_dict(),
                "ema": None if self.ema is None else self.ema.module.state_dict(),
                "ema_updates": 0 if self.ema is None else int(self.ema.n_averaged),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict(),
                "guard": self.guard.state(),
                "step": self.clock.step,
                "seconds": self.clock.seconds,
                "epoch": self.epoch,
                "progress": vars(self.progress),
                "best": self.best,
                "stale": self.stale,
                "history": self.history,
                "random": random_states(),
            }
        )

    def restore(self, saved: dict[str, Any], path: str) -> None:
        """Load what `state` returned; `path` names the file in messages.

        Raises:
            UserError: an entry of it is of another run. `saved` has all entries, each of its kind.
        """
        file = f"checkpoint {path}"
        saved_state.check_optimizer(saved["optimizer"], self.optimizer, file)
        saved_state.check_schedule(saved["schedule"], self.schedule, file)
        saved_state.check_scaler(saved["scaler"], file)
        saved_state.check_random(saved["random"], file)
        checkpoint.load_weights(self.network, saved["model"], path)
        if self.ema is not None and saved["ema"] is not None:
            checkpoint.load_weights(self.ema.module, saved["ema"], path)
            self.ema.n_averaged.fill_(saved["ema_updates"])
        self.optimizer.load_state_dict(match_state_layout(saved["optimizer"], self.optimizer))
        self.schedule.load_state_dict(saved["schedule"])
        if saved["scaler"]:  # a run in another precision had none
            self.scaler.load_state_dict(saved["scaler"])
        self.guard.restore(saved["guard"])
        self.clock.step, self.clock.before = saved["step"], saved["seconds"]
        self.clock.started, self.clock.resumed = time.perf_counter(), saved["step"]
        self.epoch, self.progress = saved["epoch"], Progress(**saved["progress"])
        self.best, self.stale, self.history = saved["best"], saved["stale"], saved["history"]
        restore(saved["random"])
