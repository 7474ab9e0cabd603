"""The one training loop: forward, losses, backward, clip, step. It knows no task."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from engine.config.schema import Precision
from engine.data.loader import Loader
from engine.data.upright import upright
from engine.distributed import collectives
from engine.network import Network
from engine.protocols import Metric
from engine.structures import Batch, Meta, Objects, to_original
from engine.training.precision import autocast
from engine.training.run import Run

LOG_EVERY = 20  # steps between two reads of device values


def train_epoch(run: Run, loader: Loader, log: Any) -> Iterator[None]:
    """The rest of an epoch, or what the clock still allows of it; a pause after every step.

    Between two steps the run's state is whole. The epoch's means are `run.progress.means()`.

    Raises:
        Diverged: the loss or its gradient is not finite, many steps in a row.
    """
    network, parameters = run.network.train(), list(run.network.parameters())
    run.finetune(network, run.epoch)
    progress = run.progress
    loader.sampler.seek(run.epoch, progress.batches)
    run.optimizer.zero_grad()
    bar = tqdm(loader, f"epoch {run.epoch + 1}", len(loader), leave=False, disable=_hidden(),
               initial=progress.batches)  # fmt: skip
    for batch in bar:
        run.mark("data")
        collectives.reseed(loader.sampler.seed, run.epoch, progress.batches)
        run.guard.watch(batch.meta)
        batch = batch.to(run.device)
        with autocast(run.precision, run.device):
            output = network(batch.images)
        run.mark("forward")
        losses = network.losses(output, batch.objects)
        said = collectives.means(losses)
        progress.add_losses(said, run.guard.finite(_sum(said)))
        progress.batches = loader.position
        run.mark("losses")
        share = 1 / _group(progress.batches, run.accumulate, len(loader))
        run.scaler.scale(_sum(losses) * share).backward()
        run.mark("backward")
        if progress.batches % run.accumulate and progress.batches < len(loader):
            continue
        collectives.average(parameters)
        run.scaler.unscale_(run.optimizer)
        norm, clipped = run.clip(parameters)
        bad = run.guard.is_bad_step(norm)
        run.step(bad)
        progress.add_step(norm, clipped, bad)
        run.mark("optimizer")
        if run.clock.step % LOG_EVERY == 0:
            run.guard.report(run.clock.step)
            now = {"loss": float(_sum(said).detach()), "grad_norm": float(norm), "lr": run.rate}
            log.step(now, run.clock.step)
            bar.set_postfix(loss=f"{now['loss']:.3f}")
        yield
        if run.clock.done >= 1:
            break
    run.guard.report(run.clock.step)


def _sum(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _hidden() -> bool | None:
    """Of a progress bar: on a terminal the first process has one."""
    return bool(collectives.rank()) or None


def _group(batch: int, accumulate: int, batches: int) -> int:
    """How many batches the step of this one is made of: the last step of an epoch may have less."""
    before = (batch - 1) // accumulate * accumulate
    return min(accumulate, batches - before)


def _add(sums: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Sum on the device; reading a value there would stall the step."""
    for key, value in values.items():
        sums[key] = sums.get(key, 0) + value.detach()  # type: ignore[assignment]


@torch.inference_mode()
def detect(
    network: Network, loader: Loader, device: torch.device, precision: Precision
) -> Iterator[tuple[Objects, Batch, dict[str, Tensor]]]:
    """What the network finds, batch by batch.

    Every batch is filled up to the size of the largest, so that the arithmetic of an image, and
    with it the last bit of its scores, is the same wherever it stands.

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
    """The dataset's own records of these images, in pixels of the originals."""
    records = [upright(loader.dataset.record(m.index), m.turn, m.size) for m in meta]
    return Objects.from_records(records, [m.size for m in meta])


def evaluate(
    network: Network, loader: Loader, metric: Metric, device: torch.device, precision: Precision
) -> tuple[dict[str, float], list[tuple[Objects, list[Meta]]]]:
    """The metric over a split, the mean losses, and everything that was predicted.

    Several processes share the batches. The first judges all that they find, in the dataset's
    order, and has the predictions; the others have its numbers.
    """
    metric.reset()
    sums: dict[str, Tensor] = {}
    predicted = []
    bar = tqdm(detect(network, loader, device, precision), "evaluating", len(loader), leave=False,
               disable=_hidden())  # fmt: skip
    own = ((found, batch.meta, _on_cpu(losses)) for found, batch, losses in bar)
    for found, meta, losses in collectives.gather_in_order(own):
        metric.update(found, truth(loader, meta), meta)
        predicted.append((found, meta))
        _add(sums, losses)
    means = {f"loss/{k}": float(v) / max(len(predicted), 1) for k, v in sums.items()}
    return collectives.broadcast_from_rank_zero(lambda: metric.compute() | means), predicted


def _on_cpu(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Like the objects found, which have waited for the device already."""
    return {key: value.cpu() for key, value in losses.items()}
