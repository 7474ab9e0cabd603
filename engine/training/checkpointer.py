"""When a run is saved, and what happens when the file system refuses."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any

from omegaconf import DictConfig

from engine.config.check import save_interval
from engine.config.image_size import size_of
from engine.config.schema import plain
from engine.console import info
from engine.data.categories import category_ids
from engine.distributed import collectives
from engine.errors import Diverged, Stopped
from engine.protocols import Dataset
from engine.training.run import Run
from engine.weights import checkpoint
from engine.whole_file import NotWritten


class Checkpointer:
    """Writes the checkpoints of a run, `last.pt` and `best.pt`, into a folder."""

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

        Where the file system refuses, the old files stay intact and training goes on.
        """
        state = self._state()
        self.saved = (self.run.clock.step, self.run.clock.seconds)
        # best.pt first: a run killed between the two, or refused the first, is resumed before this
        names = ["best.pt", "last.pt"] if better else ["last.pt"]
        for i, name in enumerate(names):
            try:
                checkpoint.save(self.folder / name, state)
            except NotWritten as error:
                self.missing |= dict.fromkeys(names[i:], error.reason)
                info(f"{self.folder}: no checkpoint written at step {self.run.clock.step}: "
                    f"{error.reason}; the one before is intact, training goes on")  # fmt: skip
                return
            self.missing.pop(name, None)

    @property
    def failed(self) -> str:
        """Why the last save failed; "" where it did not."""
        return self.missing.get("last.pt", "")

    def if_due(self) -> None:
        """Save if the steps or minutes of `trainer.save_every` have passed since the last save."""
        step, seconds = self.saved
        clock = self.run.clock
        is_late = self.seconds < inf and collectives.broadcast_from_rank_zero(
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
            hint = f"to go on: train.py resume={self.folder / 'last.pt'}"
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
            "processes": collectives.world(),
            "preprocessing": {
                "size": list(size_of(cfg)),
                **{key: cfg.augment.get(key) for key in ("fit", "resize", "interpolation")},
                **plain(cfg.preprocessing),
            },
        }
