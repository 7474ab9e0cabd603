"""The files of a run folder: CSV, JSON, TensorBoard and images; and lines on the console."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from torch import nn

from engine.config.schema import plain
from engine.console import format_defect, info
from engine.distributed.processes import rank_zero_only
from engine.output import draw_anchors
from engine.output.draw import Album
from engine.output.events import Events
from engine.output.trackers import CSV, BestEffort, TensorBoard
from engine.protocols import Tracker
from engine.record import Meta, Ranked
from engine.whole_file import NotWritten, write_whole

TRACKED = ("metrics.json", "report.html", "checkpoints/best.pt")  # files that trackers get
SHOWN_FILES = 4  # that a message names
THRESHOLDS = 127  # of a precision-recall curve; TensorBoard's default


class RunLog:
    """Writes the files of a run folder; a run resumed after `step` replaces what is later.

    A file that cannot be written does not end the run; `missing` keeps why.
    """

    def __init__(
        self,
        folder: Path,
        cfg: DictConfig,
        tracker: Tracker,
        step: int = 0,
        history: Iterable[dict[str, float]] = (),
    ) -> None:
        self.folder, self.num_reported = folder, {}
        self.config = plain(cfg)
        self.evaluated: list[Meta] | None = None  # the validation images last evaluated
        self.missing: dict[str, str] = {}  # the reason, by the file's name in the folder
        self._reported: set[str] = set()
        self.board = Events(folder / "tensorboard", step)
        # By the name in `missing`; what `tracker=` adds is never missing.
        self.trackers: dict[str, Tracker] = {
            "metrics.csv": CSV(folder / "metrics.csv", history),
            "tensorboard": TensorBoard(self.board),
            "tracker": BestEffort(tracker),
        }
        self._open()

    @rank_zero_only
    def _open(self) -> None:
        write_whole(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self.config)))
        self.album = Album(self.folder / "images", taken=draw_anchors.MATCHES)

    @rank_zero_only
    def report(self, splits: dict[str, Any]) -> None:
        """Write data_report.json, and print its new entries and the notes of each dataset."""
        path = self.folder / "data_report.json"
        reports = {split: data.report for split, data in splits.items()}
        with self.tolerate(path.name):
            write_whole(path, json.dumps(reports, indent=1, default=str) + "\n")
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

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Start the trackers; what ends the `with` block early ends their runs without results."""
        name = "/".join(self.folder.absolute().parts[-2:])
        self._track("start", self.config, self.folder, name, None)
        try:
            yield
        except BaseException:
            self.finish(None)
            raise

    def finish(self, results: dict[str, float] | None) -> None:
        """Give the trackers what the run wrote and its results; None of a run that was stopped."""
        for path in (self.folder / name for name in TRACKED if results):
            if path.exists():
                self._track("file", path)
        self._track("finish", results)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write the row of an epoch; or numbers of a training step, each named "step/..."."""
        self._track("scalars", values, step)

    def step(self, scalars: dict[str, float], step: int) -> None:
        """Write scalars of one training step."""
        self.scalars({f"step/{key}": value for key, value in scalars.items()}, step)

    @rank_zero_only
    def _track(self, call: str, *arguments: Any) -> None:
        for name, tracker in self.trackers.items():
            with self.tolerate(name):
                getattr(tracker, call)(*arguments)

    def image(self, image: np.ndarray, meta: Meta) -> None:
        """Write an annotated validation image to images/."""
        with self.tolerate(f"images/{self.album.name(meta)}"):
            self.album.add(image, meta)

    @rank_zero_only
    def board_image(self, image: np.ndarray, meta: Meta, step: int) -> None:
        """Write an annotated validation image to TensorBoard."""
        with self.tolerate("tensorboard"):
            self.board.image(f"val/{Path(self.album.name(meta)).stem}", image, step)

    @rank_zero_only
    def curves(self, ranked: dict[str, Ranked], step: int) -> None:
        """Write the precision-recall curve of each class to TensorBoard."""
        with self.tolerate("tensorboard"):
            for name, each in ranked.items():
                self.board.curve(f"val/{name}", counts(each), step)

    @rank_zero_only
    def histograms(self, network: nn.Module, step: int) -> None:
        """Write weights and gradients of each parameter with a gradient to TensorBoard."""
        with self.tolerate("tensorboard"):
            for name, parameter in network.named_parameters():
                if parameter.grad is not None:  # all are None in a skipped step; guard reports it
                    self.board.histogram(f"weight/{name}", parameter, step)
                    self.board.histogram(f"gradient/{name}", parameter.grad, step)

    @rank_zero_only
    def hyperparameters(self, overrides: Sequence[str], scores: dict[str, float]) -> None:
        """Write the overrides of a sweep's job and its scores to TensorBoard's HPARAMS tab."""
        values = {key: _to_number(value) for key, _, value in (o.partition("=") for o in overrides)}
        with self.tolerate("tensorboard"):
            self.board.hyperparameters(values, scores)

    @property
    def fault(self) -> str:
        """Which files are missing, and why."""
        names, reasons = list(self.missing), sorted(set(self.missing.values()))
        more = f" and {len(names) - SHOWN_FILES} more" if len(names) > SHOWN_FILES else ""
        return f"could not write {', '.join(names[:SHOWN_FILES])}{more}: {', '.join(reasons)}"

    @contextmanager
    def tolerate(self, name: str) -> Iterator[None]:
        """Note a write error inside the `with` block, and print the first of its kind.

        A file of that name that is written later is not missing any more; TensorBoard's lacks a
        record for ever.
        """
        try:
            yield
        except NotWritten as error:
            kind = name.partition("/")[0]
            if kind not in self._reported:
                info(f"{error}; training goes on")
            self._reported.add(kind)
            self.missing[name] = error.reason
        else:
            if name != "tensorboard":
                self.missing.pop(name, None)


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
