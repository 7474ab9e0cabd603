"""The command `train.py`: build what the configuration names, fit, say where the results are."""

from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from torch.optim.lr_scheduler import LambdaLR

from engine import build, checkpoint, draw, draw_slots, trained
from engine.config import plain
from engine.ema import averaged
from engine.errors import UserError
from engine.logging import RunLog, leaderboard, say, write_metrics
from engine.loop import Clock, Run, evaluate, train_epoch
from engine.network import Network
from engine.optim import optimizer
from engine.precision import resolve
from engine.protocols import Metric
from engine.seed import random_states, restore, seed_everything

PICTURES = 16  # validation pictures an evaluation draws, the first 4 for TensorBoard too


def train(cfg: DictConfig) -> float:
    """Train, and return the best value of the primary metric to a sweeper."""
    device = build.device(cfg.device)
    saved, resume = {}, cfg.resume
    if resume:
        saved, cfg = trained.from_checkpoint(resume, cfg, device)
    build.check_all(cfg)
    seed_everything(cfg.seed)
    backbone = build.backbone(cfg, pretrained=not saved)
    precision = resolve(cfg.trainer.precision, device)
    train_loader = build.load(cfg, build.dataset(cfg, "train"), device, shuffle=True)
    val_loader = build.load(cfg, build.dataset(cfg, "val"), device)
    classes = train_loader.dataset.classes
    metric = build.metric(cfg, classes)
    network = build.network(cfg, len(classes), backbone)
    run = prepare(cfg, network, len(train_loader), device)
    log = RunLog(Path(HydraConfig.get().runtime.output_dir), cfg)
    log.report({"train": train_loader.dataset, "val": val_loader.dataset})
    if saved:
        trained.check_classes(saved["classes"], classes, resume)
        restore_run(run, saved, resume)
        over = run.epoch >= cfg.trainer.epochs or run.clock.done >= 1
        left = ": nothing is left to train, these are its results" if over else ""
        say(f"resumed after epoch {run.epoch} of {cfg.trainer.epochs}{left}")
    log.classes(train_loader.dataset)
    say(
        f"{len(train_loader.dataset)} pictures train, {len(val_loader.dataset)} validate, "
        f"{len(classes)} classes; on {device} in {precision.name}"
    )
    if not saved:
        draw_slots.write(run.network, train_loader, val_loader, log.folder / "pictures")
    while run.epoch < cfg.trainer.epochs and run.clock.done < 1:
        row = {"epoch": run.epoch + 1} | train_epoch(run, train_loader, log)
        run.epoch += 1
        last = run.epoch == cfg.trainer.epochs or run.clock.done >= 1
        if last or run.epoch % cfg.trainer.eval_every == 0:
            row |= validate(run, val_loader, metric, log)
        run.history.append(row | {"seconds": round(run.clock.seconds, 2)})
        log.epoch(run.history, run.clock.step)
        keep(run, cfg, classes, metric.primary, log.folder / "checkpoints")
    log.report({"train": train_loader.dataset, "val": val_loader.dataset})
    return finish(run, cfg, metric, log)


def prepare(cfg: DictConfig, network: Network, batches: int, device: torch.device) -> Run:
    """A run at its first step."""
    network = network.to(device)
    if cfg.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if cfg.trainer.compile:
        network.compile()
    precision = resolve(cfg.trainer.precision, device)
    finetune = build.part(cfg.finetune, "finetune")
    clock = Clock(cfg.trainer.epochs * -(-batches // cfg.trainer.accumulate), cfg.trainer.minutes)
    try:
        optim = optimizer(finetune.rates(network), build.part(cfg.optimizer, "optimizer"))
    except ValueError as error:  # torch's own check of its arguments
        raise UserError(f"optimizer: {error}") from error
    factor = build.part(cfg.schedule, "schedule")
    return Run(
        network=network,
        ema=averaged(network, cfg.trainer.ema) if cfg.trainer.ema else None,
        optimizer=optim,
        schedule=LambdaLR(optim, lambda _: factor(clock.done)),
        scaler=torch.amp.GradScaler(device.type, enabled=precision.name == "fp16"),
        clip=build.part(cfg.clip, "clip"),
        finetune=finetune,
        clock=clock,
        device=device,
        precision=precision,
        accumulate=cfg.trainer.accumulate,
    )


def validate(run: Run, loader: Any, metric: Metric, log: RunLog) -> dict[str, float]:
    """One evaluation: its numbers, and a few pictures of what was found."""
    scores, predicted = evaluate(run.evaluated, loader, metric, run.device, run.precision)
    for i, (image, meta) in enumerate(draw.samples(loader.dataset, predicted, PICTURES)):
        log.picture(image, meta, run.clock.step, board=i < 4)
    draw.charts(metric, log.folder / "pictures")
    value = scores[metric.primary]
    loss = sum(v for k, v in scores.items() if k.startswith("loss/"))
    say(
        f"epoch {run.epoch}: {metric.primary} {value:.4f} (best {max(value, run.best):.4f}), "
        f"loss {loss:.3f}, {run.clock.seconds:.0f} s"
    )
    return {f"val/{key}": value for key, value in scores.items()}


def keep(run: Run, cfg: DictConfig, classes: list[str], primary: str, folder: Path) -> None:
    """Save the last checkpoint, and the best where this epoch's evaluation is."""
    value = run.history[-1].get(f"val/{primary}", float("-inf"))
    better = value > run.best
    run.best = max(value, run.best)
    state = {
        "config": plain(cfg),
        "classes": classes,
        "preprocessing": {
            "size": list(build.size_of(cfg)),
            **{key: cfg.augment.get(key) for key in ("fit", "resize", "interpolation")},
            **plain(cfg.preprocessing),
        },
        "model": run.network.state_dict(),
        "ema": None if run.ema is None else run.ema.module.state_dict(),
        "ema_updates": 0 if run.ema is None else int(run.ema.n_averaged),
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state_dict(),
        "scaler": run.scaler.state_dict(),
        "step": run.clock.step,
        "seconds": run.clock.seconds,
        "epoch": run.epoch,
        "best": run.best,
        "history": run.history,
        "random": random_states(),
    }
    checkpoint.save(folder / "last.pt", state)
    if better:
        checkpoint.save(folder / "best.pt", state)


def restore_run(run: Run, saved: dict[str, Any], path: str) -> None:
    """Put a run back to where `keep` saved it."""
    checkpoint.load_weights(run.network, saved["model"], path)
    if run.ema is not None and saved["ema"] is not None:
        checkpoint.load_weights(run.ema.module, saved["ema"], path)
        run.ema.n_averaged.fill_(saved["ema_updates"])
    run.optimizer.load_state_dict(saved["optimizer"])
    run.schedule.load_state_dict(saved["schedule"])
    run.scaler.load_state_dict(saved["scaler"])
    run.clock.step, run.clock.before = saved["step"], saved["seconds"]
    run.epoch, run.best, run.history = saved["epoch"], saved["best"], saved["history"]
    restore(saved["random"])


def finish(run: Run, cfg: DictConfig, metric: Metric, log: RunLog) -> float:
    """Write metrics.json for the best epoch, say where everything is, return the primary value."""
    evaluated = [row for row in run.history if f"val/{metric.primary}" in row]
    best = max(evaluated, key=lambda row: row[f"val/{metric.primary}"])
    write_metrics(
        log.folder,
        primary=metric.primary,
        metrics={k.removeprefix("val/"): v for k, v in best.items() if k.startswith("val/")},
        protocol=metric.protocol,
        dataset=f"{cfg.dataset.get('root') or cfg.dataset._target_.split('.')[-1]} val",
        seconds=run.clock.seconds,
        images=run.clock.step * cfg.trainer.accumulate * cfg.loader.batch_size,
    )
    log.board.close()
    say(
        f"{metric.primary} {best[f'val/{metric.primary}']:.4f} on val at epoch {best['epoch']} "
        f"({metric.protocol})\nresults, checkpoints and pictures: {log.folder}"
    )
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        rows = leaderboard(Path(hydra.sweep.dir))
        say(f"{len(rows)} jobs done: {Path(hydra.sweep.dir) / 'leaderboard.csv'}")
    return best[f"val/{metric.primary}"]
