"""The end of a run: its results as files and lines."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from engine.config.arguments import program
from engine.console import info
from engine.data.loader import Loader
from engine.distributed import processes
from engine.network import Network
from engine.network_protocols import HeadOptions
from engine.output import draw_anchors, protocol, read_predictions, run_summary, sweep
from engine.output.metrics_file import write_metrics
from engine.output.run_log import RunLog
from engine.protocols import Metric
from engine.report import write
from engine.training.run import Run


def finish(
    run: Run, cfg: DictConfig, metric: Metric, log: RunLog, loader: Loader, split: str
) -> float:
    """Write metrics.json and the report of the best epoch, say where, return the primary value.

    Args:
        run: that ended.
        cfg: its configuration.
        metric: that judged it.
        log: its files.
        loader: of the validation images.
        split: what these are, in words.
    """
    evaluated = [row for row in run.history if f"val/{metric.primary}" in row]
    best = max(evaluated, key=lambda row: row[f"val/{metric.primary}"])
    decoding = HeadOptions.protocol.of(run.network.head)
    rules = protocol.describe(metric, loader.dataset, decoding=decoding)
    with log.tolerate("metrics.json"):
        write_metrics(
            log.folder,
            primary=metric.primary,
            metrics={k.removeprefix("val/"): v for k, v in best.items() if k.startswith("val/")},
            protocol=rules,
            dataset=f"{cfg.dataset.get('root') or cfg.dataset._target_.split('.')[-1]} {split}",
            seconds=run.clock.seconds,
            images=run.clock.step * cfg.trainer.accumulate * cfg.loader.batch_size,
            split="train" if cfg.trainer.overfit else "val",
            evaluated=None if log.evaluated is None else len(log.evaluated),
            epoch=int(best["epoch"]),
        )
    if cfg.report:
        _write_report(log, run.evaluated, loader, metric)
    if sweep.is_job():
        scores = {metric.primary: best[f"val/{metric.primary}"]}
        log.hyperparameters(HydraConfig.get().overrides.task, scores)
    if cfg.profile:
        info(*run.mark.summary_lines())
    epochs = cfg.trainer.epochs
    if epochs is None or run.epoch < epochs:
        budget = "minutes" if run.clock.done >= 1 else "patience"
        of = run_summary.of_epochs(epochs)
        info(f"trainer.{budget}={cfg.trainer[budget]} ended the run in epoch {run.epoch}{of}")
    info(
        f"{metric.primary} {best[f'val/{metric.primary}']:.4f} on {split} at epoch {best['epoch']} "
        f"({rules})",
        f"results, checkpoints and images: {log.folder}",
    )
    values = {"epoch": best["epoch"], **{k: v for k, v in best.items() if k.startswith("val/")}}
    log.finish({f"best/{key.removeprefix('val/')}": value for key, value in values.items()})
    return best[f"val/{metric.primary}"]


@processes.rank_zero_only
def _write_report(log: RunLog, network: Network, loader: Loader, metric: Metric) -> None:
    """Write report.html of the best epoch, whose predictions are in the run folder."""
    path = log.folder / "predictions.json"
    for name in ("metrics.json", path.name):
        if name in log.missing:  # what stands there may be of an older epoch
            log.missing["report.html"] = log.missing[name]
            return
    if not path.exists() or log.evaluated is None:
        command = f"{program('eval')} checkpoint=..."
        info(f"no report.html: this start evaluated nothing; {command} writes one")
        return
    with log.tolerate("report.html"):
        slots = draw_anchors.slots(network, loader)
        data, table = loader.dataset, read_predictions.read_table(path, loader.dataset)
        found = write.write(log.folder, data, metric, table, log.evaluated, slots)
        info(f"report: {found}")
