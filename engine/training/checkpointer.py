"""When a run is saved, and what happens when the file system refuses."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any

from omegaconf import DictConfig

from engine.config.arguments import program
from engine.config.check import save_interval
from engine.config.image_size import size_of
from engine.config.schema import plain
from engine.console import info
from engine.data.categories import category_ids
from engine.distributed import processes
from engine.errors import Diverged, Stopped
from engine.protocols import Dataset
from engine.training.run import Run
from engine.weights import checkpoint, entries
from engine.whole_file import NotWritten


class Checkpointer:
    """Writes the checkpoints of a run into a folder.

    `last.pt` holds what the run goes on from, `best.pt` what predicts: one set of weights, the
    average where there is one, and what their network is built from.
    """

    def __init__(
        self,
        run: Run,
        cfg: DictConfig,
        data: Dataset,
        folder: Path,
        choices: Mapping[str, str | None] = MappingProxyType({}),
    ) -> None:
        self.run, self.cfg, self.data, self.folder = run, cfg, data, folder
        self.choices = dict(choices)  # of the configuration's groups, by the command line
        self.steps, self.seconds = save_interval(cfg.trainer.save_every)
        self.saved = (run.clock.step, run.clock.seconds)
        self.missing: dict[str, str] = {}  # why a file is not there, or an older one

    def __call__(self, better: bool = False) -> None:
        """Write `last.pt`, and `best.pt` if `better`.

        Where the file system refuses one, its old file stays intact and training goes on.
        """
        state = self._state()
        self.saved = (self.run.clock.step, self.run.clock.seconds)
        # last.pt first: of a run killed between the two, `write_best` writes the other
        files = {"last.pt": state} | ({"best.pt": _predicting(state)} if better else {})
        refused = {name: why for name, held in files.items() if (why := self._write(name, held))}
        self.missing = {k: v for k, v in self.missing.items() if k not in files} | refused
        if refused:
            self._tell(refused)

    def write_best(self, primary: str) -> None:
        """Write `best.pt` of a run that goes on where its best epoch ended.

        It may have been killed, or the file refused, after `last.pt` was written.

        Args:
            primary: the metric that decides.
        """
        run = self.run
        is_evaluated = bool(run.history) and f"val/{primary}" in run.history[-1]
        if not is_evaluated or run.stale or run.progress.batches:
            return
        if why := self._write("best.pt", _predicting(self._state())):
            self.missing["best.pt"] = why
            self._tell({"best.pt": why})

    def _write(self, name: str, state: dict[str, Any]) -> str:
        """Write a file; return why the file system refused it, "" where it did not."""
        try:
            checkpoint.save(self.folder / name, state)
        except NotWritten as error:
            return error.reason
        return ""

    def _tell(self, refused: Mapping[str, str]) -> None:
        """Print which files the file system refused, and why."""
        what = "no checkpoint" if "last.pt" in refused else "no best.pt"
        where = f"{self.folder}: {what} written at step {self.run.clock.step}"
        reason = next(iter(refused.values()))
        info(f"{where}: {reason}; the one before is intact, training goes on")

    @property
    def failed(self) -> str:
        """Why the last save failed; "" where it did not."""
        return self.missing.get("last.pt", "")

    def if_due(self) -> None:
        """Save if the steps or minutes of `trainer.save_every` have passed since the last save."""
        step, seconds = self.saved
        clock = self.run.clock
        is_late = self.seconds < inf and processes.broadcast_from_rank_zero(
            lambda: clock.seconds - seconds >= self.seconds
        )
        if is_late or clock.step - step >= self.steps:
            self()

    @contextmanager
    def save_on_exit(self) -> Iterator[None]:
        """Save if a signal, or too many steps that are not finite, end the `with` block."""
        try:
            yield
        except Stopped as error:
            self()
            hint = f"to go on: {program('train')} resume={self.folder / 'last.pt'}"
            hint = f"it could not be saved: {self.failed}" if self.failed else hint
            raise Stopped(
                error.args[0], f"stopped after step {self.run.clock.step}; {hint}"
            ) from None
        except Diverged:
            self()
            raise

    def _state(self) -> dict[str, Any]:
        cfg = self.cfg
        return self.run.state() | {
            "config": plain(cfg),
            "choices": self.choices,
            "device": self.run.device.type,
            "classes": self.data.classes,
            "categories": category_ids(self.data),
            "processes": processes.world(),
            "preprocessing": {
                "size": list(size_of(cfg)),
                **{key: cfg.augment.get(key) for key in ("fit", "resize", "interpolation")},
                **plain(cfg.preprocessing),
            },
        }


def _predicting(state: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's state its best weights predict with."""
    kept = {key: value for key, value in state.items() if key not in entries.RESUMED}
    return kept | {"model": state["ema"] or state["model"], "ema": None}
