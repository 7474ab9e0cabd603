"""The files of a run folder: CSV, JSON, TensorBoard and images; and lines on the console."""

import csv
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from engine.config.schema import CONFIGS, plain
from engine.console import format_defect, info
from engine.distributed.collectives import rank_zero_only
from engine.errors import UserError
from engine.output.draw import Album
from engine.protocols import Ranked
from engine.structures import Meta

THRESHOLDS = 127  # of a precision-recall curve; TensorBoard's default


class RunLog:
    """Writes the files of a run folder; a run resumed after `step` replaces what is later."""

    def __init__(self, folder: Path, cfg: DictConfig, step: int = 0) -> None:
        self.folder, self.num_reported, self.refused = folder, {}, set()
        self._open(cfg, step)

    @rank_zero_only
    def _open(self, cfg: DictConfig, step: int) -> None:
        folder = self.folder
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(plain(cfg)), folder / "config.yaml")
        self.board = SummaryWriter(
            str(folder / "tensorboard"), purge_step=step + 1 if step else None
        )
        self.album = Album(folder / "images")

    @rank_zero_only
    def report(self, splits: dict[str, Any]) -> None:
        """Write data_report.json, and print its new entries and the notes of each dataset."""
        path = self.folder / "data_report.json"
        reports = {split: data.report for split, data in splits.items()}
        path.write_text(json.dumps(reports, indent=1, default=str) + "\n")
        for split, data in splits.items():
            lines = data.notes + [format_defect(entry) for entry in data.report]
            new = lines[self.num_reported.get(split, 0) :]
            self.num_reported[split] = len(lines)
            for line in new[:3]:
                info(f"data ({split}): {line}")
            if len(new) > 3:
                info(f"data ({split}): {len(new) - 3} more, all in {path}")

    @rank_zero_only
    def classes(self, data: Any) -> None:
        """Print how many training objects each class has: a typo in a label shows here."""
        labels = np.concatenate([data.record(i).labels for i in range(len(data))])
        counts = np.bincount(labels, minlength=len(data.classes)).tolist()
        named = [f"{name} {count}" for name, count in zip(data.classes, counts, strict=True)]
        more = f" and {len(named) - 20} more" if len(named) > 20 else ""
        info(f"classes: {', '.join(named[:20])}{more}")

    @rank_zero_only
    def epoch(self, history: list[dict[str, float]], step: int) -> None:
        """Write the whole history as metrics.csv, and its last row to TensorBoard."""
        columns = list(dict.fromkeys(key for row in history for key in row))
        with (
            self._report_write_errors("metrics.csv"),
            open(self.folder / "metrics.csv", "w", newline="") as file,
        ):
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(history)
        with self._report_write_errors("tensorboard"):
            for key, value in history[-1].items():
                self.board.add_scalar(key, value, step)

    @rank_zero_only
    def step(self, scalars: dict[str, float], step: int) -> None:
        """Write scalars of one training step to TensorBoard."""
        with self._report_write_errors("tensorboard"):
            for key, value in scalars.items():
                self.board.add_scalar(f"step/{key}", value, step)

    def image(self, image: np.ndarray, meta: Meta, step: int, board: bool) -> None:
        """Write an annotated validation image to images/, and if `board` to TensorBoard."""
        with self._report_write_errors("images"):
            self.album.add(image, meta)
        with self._report_write_errors("tensorboard"):
            if board:
                self.board.add_image(f"val/{meta.id}", image, step, dataformats="HWC")

    @rank_zero_only
    def curves(self, ranked: dict[str, Ranked], step: int) -> None:
        """Write the precision-recall curve of each class to TensorBoard."""
        with self._report_write_errors("tensorboard"):
            for name, each in ranked.items():
                columns = counts(each)
                self.board.add_pr_curve_raw(f"val/{name}", *columns, global_step=step)

    @rank_zero_only
    def histograms(self, network: nn.Module, step: int) -> None:
        """Write weights and gradients of each parameter with a gradient to TensorBoard."""
        with self._report_write_errors("tensorboard"):
            for name, parameter in network.named_parameters():
                if parameter.grad is not None:  # all are None in a skipped step; guard reports it
                    self.board.add_histogram(f"weight/{name}", parameter, step)
                    self.board.add_histogram(f"gradient/{name}", parameter.grad, step)

    @rank_zero_only
    def hyperparameters(self, overrides: Sequence[str], scores: dict[str, float]) -> None:
        """Write the overrides of a sweep's job and its scores to TensorBoard's HPARAMS tab."""
        values = {key: _to_number(value) for key, _, value in (o.partition("=") for o in overrides)}
        with self._report_write_errors("tensorboard"):
            self.board.add_hparams(values, scores, run_name=".")  # its own folder, not a new one

    @rank_zero_only
    def close(self) -> None:
        """Flush and close TensorBoard's file."""
        with self._report_write_errors("tensorboard"):
            self.board.close()

    @contextmanager
    def _report_write_errors(self, name: str) -> Iterator[None]:
        """Print a write error inside the `with` block, once a file, instead of ending the run."""
        try:
            yield
        except (OSError, UserError) as error:
            if name not in self.refused:
                info(f"{self.folder / name} cannot be written: {error}; training goes on")
            self.refused.add(name)


class Silent:
    """A log that writes nothing."""

    def step(self, scalars: dict[str, float], step: int) -> None:
        """Ignore the scalars of a training step."""


def counts(ranked: Ranked) -> tuple[np.ndarray, ...]:
    """Return true and false positives, true and false negatives, precision and recall.

    [THRESHOLDS] each. The precision at a threshold above every score is 1.
    """
    positive = ranked.scores >= np.linspace(0, 1, THRESHOLDS)[:, None]  # [T, M]
    tp, fp = (positive & ranked.right).sum(1), (positive & ~ranked.right).sum(1)
    precision = np.where(tp + fp, tp / (tp + fp).clip(1), 1.0)
    tn, fn = (~ranked.right).sum() - fp, ranked.total - tp
    return tp, fp, tn, fn, precision, tp / max(ranked.total, 1)


def _to_number(text: str) -> float | str:
    """Return a float if the text is one, since TensorBoard can sort numbers, else the text."""
    try:
        return float(text)
    except ValueError:
        return text


@rank_zero_only
def write_metrics(
    folder: Path,
    *,
    primary: str,
    metrics: dict[str, float],
    protocol: str,
    dataset: str,
    seconds: float,
    images: int,
) -> None:
    """Write metrics.json: the numbers, the protocol they follow, and what they were measured on."""
    content = {
        "primary_name": primary,
        "primary_value": metrics[primary] if isfinite(metrics[primary]) else None,
        "metrics": {k: v if isfinite(v) else None for k, v in metrics.items()},
        "protocol": protocol,
        "dataset": dataset,
        "seconds": round(seconds, 2),
        "images_per_second": round(images / max(seconds, 1e-9), 2),
        "commit": commit(),
    }
    (folder / "metrics.json").write_text(json.dumps(content, indent=1) + "\n")


def commit() -> str | None:
    """Return the project's commit, with a + if files differ from it; None outside git."""
    result = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
        cwd=CONFIGS,
        capture_output=True,
        text=True,
    )
    return result.stdout.strip() or None


def leaderboard(folder: Path) -> list[dict[str, Any]]:
    """Write leaderboard.csv, a row each finished job of a sweep, best first; return its rows."""
    rows = []
    for path in folder.glob("*/metrics.json"):
        metrics = json.loads(path.read_text())
        overrides = OmegaConf.load(path.parent / ".hydra" / "overrides.yaml")
        row = {"job": path.parent.name, metrics["primary_name"]: metrics["primary_value"]}
        row |= dict(str(o).split("=", 1) for o in overrides)
        rows.append(row | {"seconds": metrics["seconds"]})
    rows.sort(key=lambda row: list(row.values())[1], reverse=True)
    with open(folder / "leaderboard.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(k for row in rows for k in row)))
        writer.writeheader()
        writer.writerows(rows)
    return rows
