"""The one training loop: forward, losses, backward, clip, step. It knows no task."""

from collections.abc import Iterator
from math import isinf
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from engine.config.schema import Precision
from engine.console import duration, short
from engine.data.given import Given
from engine.data.loader import Loader
from engine.data.upright import upright
from engine.distributed import collectives, processes
from engine.network import Predictor, refuse_nan_output
from engine.passes.merge import merged
from engine.protocols import Metric
from engine.record import Meta
from engine.structures import Batch, Objects, to_original
from engine.training.precision import autocast
from engine.training.run import Run
from engine.training.same_answer import SameAnswer

LOG_EVERY = 20  # steps between two reads of device values
# The words first: a narrow terminal cuts the bar, not them.
TRAINING = "{desc} {percentage:.0f}%{postfix} {bar}"
EVALUATING = "{desc} {percentage:.0f}%, {n_fmt} of {total_fmt} batches, {remaining} left {bar}"


def train_epoch(run: Run, loader: Loader, log: Any) -> Iterator[None]:
    """Train the remaining batches of the epoch, or until the time budget is used up.

    Yields after every step of the optimizer; the run can be saved there. The epoch's means are then
    `run.progress.means()`.

    Raises:
        Diverged: the loss or its gradient is not finite, many steps in a row.
    """
    network, parameters = run.network.train(), list(run.network.parameters())
    run.finetune(network, run.epoch)
    progress = run.progress
    loader.sampler.seek(run.epoch, progress.batches)
    run.optimizer.zero_grad()
    bar, shown = _bar(run, loader), ""  # the loss last read
    for batch in bar:
        run.mark("data")
        collectives.reseed(loader.sampler.seed, run.epoch, progress.batches)
        run.guard.watch(batch.meta)
        batch = batch.to(run.device)
        ends_step = loader.position % run.accumulate == 0 or loader.position == len(loader)
        with autocast(run.precision, run.device), run.statistics.following(run.clock.step):
            output = run.replica(batch, averages=ends_step)
        run.mark("forward")
        losses = network.losses(output, batch.objects)
        means = collectives.mean_losses(losses)
        progress.add_losses(means, run.guard.finite(_sum(means)))
        progress.batches = loader.position
        run.mark("losses")
        weight = 1 / _batches_in_step(progress.batches, run.accumulate, len(loader))
        run.scaler.scale(_sum(losses) * weight).backward()
        run.mark("backward")
        if not ends_step:
            continue
        run.scaler.unscale_(run.optimizer)
        norm, clipped = run.clip(parameters)
        bad = run.guard.is_bad_step(norm)
        run.step(bad)
        progress.add_step(norm, clipped, bad)
        run.mark("optimizer")
        if run.clock.step % LOG_EVERY == 0:
            run.guard.report(run.clock.step)
            now = {"loss": float(_sum(means).detach()), "grad_norm": float(norm), "lr": run.rate}
            log.step(now, run.clock.step)
            shown = f"loss {short(now['loss'])}, "
        bar.set_postfix_str(shown + _time_left(run), refresh=False)
        yield
        if run.clock.done >= 1:
            break
    run.guard.report(run.clock.step)


def _bar(run: Run, loader: Loader) -> tqdm:
    """The batches of an epoch; the bar names it and, by the clock's steps, how many there are."""
    number, steps = run.epoch + 1, -(-len(loader) // run.accumulate)
    all_steps = run.clock.total_steps
    of = "" if isinf(all_steps) else f"/{max(int(all_steps) // steps, number)}"
    name = f"epoch {number}{of}"
    return tqdm(loader, name, len(loader), leave=False, disable=_hide_bar(),
                initial=run.progress.batches, bar_format=TRAINING, dynamic_ncols=True)  # fmt: skip


def _time_left(run: Run) -> str:
    """What is left of the whole run, in words; reads no value of the device."""
    left = run.clock.left  # known after a step
    return "" if left is None else f"{duration(left)} left"


def _sum(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _hide_bar() -> bool | None:
    """Return tqdm's `disable`: only rank 0 shows a progress bar, and only on a terminal (None)."""
    return bool(processes.rank()) or None


def _batches_in_step(batch: int, accumulate: int, batches: int) -> int:
    """Return how many batches this one's step has; the last step of an epoch may have fewer."""
    before = (batch - 1) // accumulate * accumulate
    return min(accumulate, batches - before)


def predict_batches(
    network: Predictor,
    loader: Loader | Given,
    device: torch.device,
    precision: Precision,
    answers: SameAnswer | None = None,
    losses: bool = True,
) -> Iterator[tuple[Objects, Batch, dict[str, Tensor]]]:
    """Run the network on every batch of a loader, in evaluation mode.

    Smaller batches are padded to the loader's batch size, so that the scores of an image are the
    same to the last bit in whichever batch it is. `answers` gets every output. Where images make
    several passes (`engine.passes`), these are merged, and there are no losses.

    Yields:
        the predicted objects in pixels of the original images, on the CPU; the batch; the losses,
        none without `losses`.
    """
    if loader.merge is None:
        return _predict_batches(network, loader, device, precision, answers, losses)
    passes = _predict_batches(network, loader, device, precision, answers, losses=False)
    return merged(passes, loader.merge, loader.batch_size)


@torch.inference_mode()
def _predict_batches(
    network: Predictor,
    loader: Loader | Given,
    device: torch.device,
    precision: Precision,
    answers: SameAnswer | None,
    losses: bool,
) -> Iterator[tuple[Objects, Batch, dict[str, Tensor]]]:
    network.eval()
    for batch in loader:
        count = len(batch.meta)
        batch = batch.to(device)
        padding = batch.images[:1].expand(loader.batch_size - count, -1, -1, -1)
        with autocast(precision, device):
            output = network(torch.cat([batch.images, padding])).first(count)
        if answers is not None:
            answers.add(output)
        predicted = network.decode(output).to("cpu")
        refuse_nan_output(output, batch.meta)  # the device has come here: this waits no longer
        predicted.refuse_nan(batch.meta)
        predicted = to_original(predicted, batch.meta)
        yield predicted, batch, network.losses(output, batch.objects) if losses else {}


def true_objects(loader: Loader, meta: list[Meta]) -> Objects:
    """Return the annotated objects of these images, in pixels of the original images."""
    records = [upright(loader.dataset.record(m.index), m.turn, m.size) for m in meta]
    return Objects.from_records(records, [m.size for m in meta])


def evaluate_network(
    network: Predictor, loader: Loader, metric: Metric, device: torch.device, precision: Precision
) -> tuple[dict[str, float], list[tuple[Objects, list[Meta]]]]:
    """Return the metric's numbers and the mean losses over a split, and all predictions.

    Several processes share the batches. Rank 0 gathers their predictions in the dataset's order and
    computes the metric; the others get its numbers, and no predictions. A mean loss is that of the
    batches, each weighing as many images as it has; inside a batch the loss has its own divisor.
    """
    metric.reset()
    sums: dict[str, float] = {}
    predictions = []
    images, answers = 0, SameAnswer()
    batches = predict_batches(network, loader, device, precision, answers)
    bar = tqdm(batches, "evaluating", len(loader), leave=False, disable=_hide_bar(),
               bar_format=EVALUATING, dynamic_ncols=True)  # fmt: skip
    shard = ((predicted, batch.meta, _to_cpu(losses)) for predicted, batch, losses in bar)
    for predicted, meta, losses in collectives.gather_in_order(shard):
        metric.update(predicted, true_objects(loader, meta), meta)
        predictions.append((predicted, meta))
        images += len(meta)
        sums = {key: sums.get(key, 0.0) + float(x) * len(meta) for key, x in losses.items()}
    answers.report(network)
    means = {f"loss/{key}": total / max(images, 1) for key, total in sums.items()}
    return processes.broadcast_from_rank_zero(lambda: metric.compute() | means), predictions


def _to_cpu(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """The predictions are on the CPU already, so this waits for the device no longer than they."""
    values = torch.stack([x.float() for x in losses.values()]).cpu() if losses else ()
    return dict(zip(losses, values, strict=True))
