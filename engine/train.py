"""The command `train.py`: build the parts, train, evaluate, print where the results are."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from engine.builders import from_checkpoint, judged_parts, parts
from engine.builders.fit import fit
from engine.builders.instantiate import part
from engine.builders.run import prepare
from engine.builders.trust import check_saveable
from engine.config.resume import check_unchanged, finished
from engine.config.schema import plain
from engine.console import info
from engine.data.categories import category_ids
from engine.data.loader import Loader
from engine.distributed import collectives, fsdp, processes
from engine.doctor import before
from engine.doctor.after import first_evaluation
from engine.doctor.first_steps import FirstSteps
from engine.errors import UserError
from engine.output import card, draw, draw_anchors, predictions, run_folder, run_summary, trackers
from engine.output.run_folder import RunFolder
from engine.output.run_log import RunLog
from engine.protocols import Dataset, Metric, MetricOptions
from engine.record import Meta
from engine.report.finish import finish
from engine.structures import Objects
from engine.training import checkpoint_size
from engine.training.checkpointer import Checkpointer
from engine.training.due import is_due, is_finished
from engine.training.loop import evaluate_network, train_epoch
from engine.training.precision import resolve
from engine.training.run import Run
from engine.training.seed import seed_everything
from engine.training.signals import Signals

Predicted = list[tuple[Objects, list[Meta]]]  # of an evaluation, by batch; empty but on rank 0

DRAWN_IMAGES = 16  # validation images that an evaluation draws
TENSORBOARD_IMAGES = 4  # the first of them, which TensorBoard gets too


def train(cfg: DictConfig) -> float:
    """Train, and return the best value of the primary metric, which a sweeper reads."""
    device = collectives.local_device(_device(cfg))
    with (
        collectives.process_group(device),
        run_folder.claimed(cfg.resume, cfg.overwrite) as folder,
    ):
        return _train(cfg, device, folder)


def _device(cfg: DictConfig) -> torch.device:
    """The device that the command line names, or else that a resumed run had."""
    if not cfg.resume or cfg.device != "auto":
        return parts.device(cfg.device)
    return from_checkpoint.device(cfg.resume)


def _train(cfg: DictConfig, device: torch.device, folder: RunFolder) -> float:
    saved, resume, asked = {}, cfg.resume, cfg
    if resume:
        saved, cfg = from_checkpoint.load(resume, cfg, device)
        overrides: Any = OmegaConf.to_container(asked.unchanged, resolve=False)
        check_unchanged(overrides, saved["config"], saved.get("choices"))
        if folder.resumed and (result := _finished(resume, saved, cfg)):
            return _already_finished(folder.path, result)
    collectives.check_equal(
        saved.get("step"), "the step of the checkpoint that the run goes on from"
    )
    parts.check_all(cfg)
    if saved and not asked.tracker and not trackers.is_recorded(folder.path):
        cfg.tracker = trackers.leave_out(cfg.tracker)
    tracker = part(cfg.tracker, "tracker")
    seed_everything(cfg.seed)
    backbone = parts.backbone(cfg, pretrained=not saved, fits=True)
    precision = resolve(cfg.trainer.precision, device)
    train_loader, val_loader = _loaders(cfg, backbone, device)
    classes = train_loader.dataset.classes
    check_saveable(plain(cfg), classes, category_ids(train_loader.dataset))
    metric = judged_parts.metric(cfg, classes)
    network = parts.network(cfg, len(classes), backbone)
    run = prepare(cfg, network, len(train_loader), device, precision)
    folder.prepare(asked)
    log = RunLog(folder.path, cfg, tracker, saved.get("step", 0), saved.get("history", ()))
    log.report({"train": train_loader.dataset, "val": val_loader.dataset})
    choices = saved["choices"] if "choices" in saved else {} if saved else _choices()
    checkpointer = Checkpointer(run, cfg, train_loader.dataset, log.folder / "checkpoints", choices)
    if saved:
        from_checkpoint.check_classes(saved["classes"], classes, resume)
        run.restore(saved, resume)
        info(_resume_note(run, cfg, saved.get("processes", 1)))
        checkpointer.write_best(metric.primary)
    log.classes(train_loader.dataset)
    _begin(cfg, run, (train_loader, val_loader), checkpointer, log.folder)
    if not saved:
        with log.tolerate("images/anchors.png"):
            draw_anchors.write(run.network, train_loader, val_loader, log.folder / "images")
    if cfg.trainer.histograms:
        hook = partial(_log_histograms, run, log, cfg.trainer.histograms)
        run.optimizer.register_step_pre_hook(hook)
    run.mark("start")
    with log.tracked():
        _train_epochs(run, cfg, (train_loader, val_loader), metric, log, checkpointer)
        log.report({"train": train_loader.dataset, "val": val_loader.dataset})
        value = finish(run, cfg, metric, log, val_loader, run_summary.validation_split(cfg))
        card.write(log, cfg, run.network, (train_loader, val_loader), choices, precision.name)
    _refuse_missing(log, checkpointer)
    return value


def _begin(
    cfg: DictConfig, run: Run, loaders: tuple[Loader, Loader], saves: Checkpointer, folder: Path
) -> None:
    """Print what the run is, what its checkpoints will take and what would waste it."""
    overrides = HydraConfig.get().overrides.task
    place = run_summary.place(run.device, run.precision.name)
    run_summary.begin(cfg, run.network, loaders, saves.choices, overrides, place, folder)
    checkpoint_size.announce(run, saves.folder)
    before.report(cfg, run, loaders)


def _choices() -> dict[str, str | None]:
    """What the command line chose of each group of the configuration."""
    return {k: v for k, v in HydraConfig.get().runtime.choices.items() if "hydra/" not in k}


def _finished(path: str, saved: dict[str, Any], cfg: DictConfig) -> dict[str, Any] | None:
    """The results of a run with nothing left to train or write; all processes agree on it."""
    return processes.broadcast_from_rank_zero(lambda: finished(path, saved, cfg))


def _already_finished(folder: Path, result: dict[str, Any]) -> float:
    info(
        f"{folder}: finished before, nothing is left to train; {result['primary_name']} "
        f"{result['primary_value']:.4f} on {result['dataset']} ({result['protocol']})"
    )
    return result["primary_value"]


def _refuse_missing(log: RunLog, checkpointer: Checkpointer) -> None:
    """Raise UserError if a file of the run is not there, or an older one."""
    faults = [log.fault] if log.missing else []
    if checkpointer.failed:
        faults.append(f"the last checkpoint could not be written: {checkpointer.failed}")
    elif checkpointer.missing:
        faults.append(
            f"the best checkpoint could not be written: {checkpointer.missing['best.pt']}"
        )
    if faults:
        raise UserError(f"training finished; {'; '.join(faults)}; the rest is in {log.folder}")


def _train_epochs(
    run: Run,
    cfg: DictConfig,
    loaders: tuple[Loader, Loader],
    metric: Metric,
    log: RunLog,
    checkpointer: Checkpointer,
) -> None:
    """Train, evaluate, log and save, epoch by epoch, until the run is finished."""
    first = FirstSteps(run, cfg.trainer, -(-len(loaders[0]) // run.accumulate))
    with Signals() as signals, checkpointer.save_on_exit():
        while not is_finished(run, cfg):
            for _ in train_epoch(run, loaders[0], log) if run.clock.done < 1 else ():
                first.watch()
                signals.stop()
                checkpointer.if_due()
            with signals.at_once(not cfg.trainer.shard):  # to save shards takes all processes
                row, predicted = epoch_row(run, cfg, loaders[1], metric, log)
                run.mark("evaluation")
            first_evaluation(cfg, run, metric, predicted)
            better = run.end_epoch(row, row.get(f"val/{metric.primary}"))
            left = None if is_finished(run, cfg) else run.clock.left
            run_summary.epoch(row, cfg.trainer.epochs, metric.primary, run.best, left)
            if better:
                log_best(loaders[1].dataset, predicted, metric, log, f"epoch {run.epoch}")
            log.scalars(row, run.clock.step)
            checkpointer(better)
            run.mark("logs and checkpoints")


def _loaders(cfg: DictConfig, backbone: Any, device: torch.device) -> tuple[Loader, Loader]:
    """Return the loaders of train and validation; to overfit, both are of the same images.

    What is `auto` of the configuration is then what the training images ask for.
    """
    overfit = bool(cfg.trainer.overfit)
    data = parts.dataset(cfg, "train")
    fit(cfg, data, backbone, device)
    train = parts.loader(cfg, data, device, shuffle=not overfit)
    return train, parts.loader(cfg, parts.dataset(cfg, "train" if overfit else "val"), device)


def _log_histograms(run: Run, log: RunLog, every: int, *_: Any) -> None:
    """Write histograms every `every` steps; the optimizer calls it before its step."""
    step = run.clock.step + 1
    if step % every == 0:
        log.histograms(run.network, step)


def _resume_note(run: Run, cfg: DictConfig, before: int) -> str:
    inside = f", {run.progress.batches} batches into the next" if run.progress.batches else ""
    done = ": nothing is left to train, these are its results" if is_finished(run, cfg) else ""
    now = processes.world()
    note = f"; trained on {before} processes until now, on {now} from here: the same batches, "
    of = run_summary.of_epochs(cfg.trainer.epochs)
    return f"resumed after epoch {run.epoch}{of}{inside}{done}" + (
        f"{note}other random numbers in the network" if now != before else ""
    )


def epoch_row(
    run: Run, cfg: DictConfig, loader: Any, metric: Metric, log: RunLog
) -> tuple[dict[str, float], Predicted]:
    """Return the numbers of a trained epoch: means, evaluation where it is due, seconds.

    And what the evaluation predicted.
    """
    number = run.epoch + 1
    trained = sum(p.numel() for p in run.network.parameters() if p.requires_grad)
    row = {"epoch": number} | run.progress.means() | {"trained": trained, "lr": run.rate}
    predicted: Predicted = []
    if run.clock.done >= 1 or is_due(cfg.trainer, number, run.clock.seconds, run.history):
        numbers, predicted = validate(run, loader, metric, log)
        row |= numbers
    return row | {"seconds": round(run.clock.seconds, 2)}, predicted


def validate(
    run: Run, loader: Any, metric: Metric, log: RunLog
) -> tuple[dict[str, float], Predicted]:
    """Evaluate the network, show TensorBoard some of its predictions; return numbers and all."""
    collectives.broadcast_weights(run.evaluated)  # batch statistics differ between processes
    with fsdp.unsharded(run.evaluated):
        scores, predicted = evaluate_network(
            run.evaluated, loader, metric, run.device, run.precision
        )
    log.evaluated = [meta for _, batch in predicted for meta in batch]
    for image, meta in draw.samples(loader.dataset, predicted, TENSORBOARD_IMAGES):
        log.board_image(image, meta, run.clock.step)
    log.curves(MetricOptions.ranked.of(metric)(), run.clock.step)
    first = {metric.primary: scores[metric.primary]}  # of the columns of metrics.csv
    return {f"val/{key}": value for key, value in (first | scores).items()}, predicted


@processes.rank_zero_only
def log_best(
    data: Dataset, predicted: Predicted, metric: Metric, log: RunLog, caption: str
) -> None:
    """Write predictions, images and charts of an epoch that is the best until now."""
    with log.tolerate("predictions.json"):
        predictions.write(log.folder / "predictions.json", data, predicted)
    for image, meta in draw.samples(data, predicted, DRAWN_IMAGES, caption=caption):
        log.image(image, meta)
    with log.tolerate("images/charts"):
        draw.charts(metric, log.folder / "images")
