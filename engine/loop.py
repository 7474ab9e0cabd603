"""The one training loop: forward, losses, backward, clip, step. It knows no task."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from engine.config import Precision
from engine.data.loader import Loader
from engine.data.upright import upright
from engine.errors import UserError
from engine.finetune import Finetune
from engine.network import Network
from engine.precision import autocast
from engine.protocols import Metric
from engine.structures import Batch, Meta, Objects, to_original

LOG_EVERY = 20  # steps between two reads of device values


@dataclass
class Clock:
    """How much of the run is done, by steps or by the budget of minutes, whichever is further."""

    total_steps: int
    minutes: float | None
    step: int = 0
    before: float = 0.0  # seconds of the run before it was resumed
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken, resumed parts together."""
        return self.before + time.perf_counter() - self.started

    @property
    def done(self) -> float:
        """Share of the run in 0..1."""
        budget = self.seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(max(self.step / self.total_steps, budget), 1.0)


@dataclass
class Run:
    """Everything that changes while a run trains, and what changes it."""

    network: Network
    ema: AveragedModel | None
    optimizer: Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler
    clip: Any
    finetune: Finetune
    clock: Clock
    device: torch.device
    precision: Precision
    accumulate: int = 1
    epoch: int = 0
    best: float = float("-inf")
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def evaluated(self) -> Network:
        """The network that is evaluated: the average where there is one."""
        return self.network if self.ema is None else self.ema.module  # type: ignore[return-value]


def train_epoch(run: Run, loader: Loader, log: Any) -> dict[str, float]:
    """One pass over the training set, or what the clock still allows of it.

    Returns:
        the mean of every loss term, of the global gradient norm before clipping, the number of
        parameters that trained, and the last learning rate.

    Raises:
        UserError: a loss is no longer finite.
    """
    network, parameters = run.network.train(), list(run.network.parameters())
    trained = run.finetune(network, run.epoch)
    loader.sampler.seek(run.epoch)
    run.optimizer.zero_grad()
    sums: dict[str, Tensor] = {}
    norms: Tensor | float = 0.0
    batches, steps = 0, 0
    bar = tqdm(loader, desc=f"epoch {run.epoch + 1}", leave=False, disable=None)
    for batches, batch in enumerate(bar, 1):
        batch = batch.to(run.device)
        with autocast(run.precision, run.device):
            output = network(batch.images)  # forward
        losses = network.losses(output, batch.objects)  # losses
        loss = torch.stack(list(losses.values())).sum()
        share = 1 / _group(batches, run.accumulate, len(loader))
        run.scaler.scale(loss * share).backward()  # backward
        _add(sums, losses)
        if batches % run.accumulate and batches < len(loader):
            continue
        run.scaler.unscale_(run.optimizer)
        norm = run.clip(parameters)  # clip
        run.scaler.step(run.optimizer)  # step
        run.scaler.update()
        run.optimizer.zero_grad()
        if run.ema is not None:
            run.ema.update_parameters(network)
        run.clock.step += 1
        run.schedule.step()
        norms, steps = norms + norm, steps + 1
        if run.clock.step % LOG_EVERY == 0:
            now = {"loss": float(loss.detach()), "grad_norm": float(norm), "lr": _rate(run)}
            log.step(now, run.clock.step)
            bar.set_postfix(loss=f"{now['loss']:.3f}")
        if run.clock.done >= 1:
            break
    means = {f"train/{k}": float(v) / max(batches, 1) for k, v in sums.items()}
    norm = {"train/grad_norm": float(norms) / max(steps, 1)}
    # With a scaler some steps overflow by design, and are skipped.
    _check_finite(means if run.scaler.is_enabled() else means | norm, run.epoch + 1)
    return means | norm | {"trained": trained, "lr": _rate(run)}


def _check_finite(means: dict[str, float], epoch: int) -> None:
    if not all(map(isfinite, means.values())):
        raise UserError(
            f"epoch {epoch}: the loss or its gradient is no longer finite ({means}); lower "
            "optimizer.lr or say trainer.precision=fp32. The checkpoints before it are intact"
        )


def _group(batch: int, accumulate: int, batches: int) -> int:
    """How many batches the step of this one is made of: the last step of an epoch may have less."""
    before = (batch - 1) // accumulate * accumulate
    return min(accumulate, batches - before)


def _rate(run: Run) -> float:
    return max(group["lr"] for group in run.optimizer.param_groups)


def _add(sums: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Sum on the device; reading a value there would stall the step."""
    for key, value in values.items():
        sums[key] = sums.get(key, 0) + value.detach()  # type: ignore[assignment]


@torch.inference_mode()
def detect(
    network: Network, loader: Loader, device: torch.device, precision: Precision
) -> Iterator[tuple[Objects, Batch, dict[str, Tensor]]]:
    """What the network finds, batch by batch.

    Every batch is filled up to the full size, so that the arithmetic of a picture, and with it the
    last bit of its scores, is the same wherever it stands.

    Yields:
        the objects in pixels of the originals, on the CPU; the batch; the losses.
    """
    network.eval()
    for batch in loader:
        count = len(batch.meta)
        batch = batch.to(device)
        filler = batch.images[:1].expand(loader.batch_size - count, -1, -1, -1)
        with autocast(precision, device):
            output = network(torch.cat([batch.images, filler])).first(count)
        found = to_original(network.decode(output).to("cpu"), batch.meta)
        yield found, batch, network.losses(output, batch.objects)


def truth(loader: Loader, meta: list[Meta]) -> Objects:
    """The dataset's own records of these pictures, in pixels of the originals."""
    records = [upright(loader.dataset.record(m.index), m.turn, m.size) for m in meta]
    return Objects.from_records(records, [m.size for m in meta])


def evaluate(
    network: Network, loader: Loader, metric: Metric, device: torch.device, precision: Precision
) -> tuple[dict[str, float], list[tuple[Objects, list[Meta]]]]:
    """The metric over a split, the mean losses, and everything that was predicted."""
    metric.reset()
    sums: dict[str, Tensor] = {}
    predicted = []
    bar = tqdm(detect(network, loader, device, precision), "evaluating", len(loader), leave=False,
               disable=None)  # fmt: skip
    for found, batch, losses in bar:
        metric.update(found, truth(loader, batch.meta), batch.meta)
        predicted.append((found, batch.meta))
        _add(sums, losses)
    means = {f"loss/{k}": float(v) / max(len(predicted), 1) for k, v in sums.items()}
    return metric.compute() | means, predicted
