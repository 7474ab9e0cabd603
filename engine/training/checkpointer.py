"""When a run is saved, and what happens when it cannot be."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from engine.config.image_size import size_of
from engine.config.ranges import save_interval
from engine.config.schema import plain
from engine.console import info
from engine.distributed import collectives
from engine.errors import Diverged, Stopped
from engine.training.run import Run
from engine.weights import checkpoint


class Checkpointer:
    """Writes `last.pt`, and `best.pt` when told, of a run into a folder."""

    def __init__(self, run: Run, cfg: DictConfig, classes: list[str], folder: Path) -> None:
        self.run, self.cfg, self.classes, self.folder = run, cfg, classes, folder
        self.steps, self.seconds = save_interval(cfg.trainer.save_every)
        self.saved = (run.clock.step, run.clock.seconds)
        self.failed = ""  # why the last save did not succeed

    def __call__(self, better: bool = False) -> None:
        """Save. A file system that refuses leaves the old files whole, and training goes on."""
        state = self._state()
        self.saved = (self.run.clock.step, self.run.clock.seconds)
        try:
            if better:  # first: killed between the two, the run comes here again
                checkpoint.save(self.folder / "best.pt", state)
            checkpoint.save(self.folder / "last.pt", state)
            self.failed = ""
        except OSError as error:
            self.failed = error.strerror or str(error)
            info(f"{self.folder}: no checkpoint written at step {self.run.clock.step}: "
                f"{self.failed}; the one before is whole, training goes on")  # fmt: skip

    def if_due(self) -> None:
        """Save when `trainer.save_every` says so."""
        step, seconds = self.saved
        clock = self.run.clock
        late = self.seconds < inf and collectives.broadcast_from_rank_zero(
            lambda: clock.seconds - seconds >= self.seconds
        )
        if late or clock.step - step >= self.steps:
            self()

    @contextmanager
    def save_on_exit(self) -> Iterator[None]:
        """Save when a signal or steps that are not finite end what is inside."""
        try:
            yield
        except Stopped as error:
            self()
            hint = f"train.py resume={self.folder / 'last.pt'}"
            told = f"it could not be saved: {self.failed}" if self.failed else f"to go on: {hint}"
            raise Stopped(
                error.args[0], f"stopped after step {self.run.clock.step}; {told}"
            ) from None
        except Diverged:
            self()
            raise

    def _state(self) -> dict[str, Any]:
        cfg = self.cfg
        return self.run.state() | {
            "config": plain(cfg),
            "classes": self.classes,
            "processes": collectives.world(),
            "preprocessing": {
                "size": list(size_of(cfg)),
                **{key: cfg.augment.get(key) for key in ("fit", "resize", "interpolation")},
                **plain(cfg.preprocessing),
            },
        }
