"""train.py and eval.py as functions: their numbers are returned, their errors are raised."""

import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write

from engine import commands
from engine import train as training
from engine.config import automatic
from engine.console import TerminalFormatter
from engine.errors import Stopped, UserError
from onelook.compose import compose, explained, without_hydra

LOCK = Lock()  # one run at a time: seeds, Hydra's configuration and the log are the process's


@dataclass(frozen=True)
class Run:
    """What a run or an evaluation left.

    Attributes:
        folder: of its files.
        primary: the name of the number that the best checkpoint goes by.
        value: that number; None where it is not finite.
        metrics: all numbers by name, of the best epoch.
        protocol: how they were measured, in one line.
    """

    folder: Path
    primary: str
    value: float | None
    metrics: dict[str, float | None]
    protocol: str

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint of a training run."""
        return self.folder / "checkpoints" / "best.pt"


def train(overrides: Sequence[str] = ()) -> Run:
    """Train as `python train.py OVERRIDES` does, and return the results.

    A program without logging of its own gets train.py's lines on standard output. Ctrl-C and
    SIGTERM save a checkpoint, then are the program's to answer.

    Args:
        overrides: as ["model=resnet18", "dataset=image_folder", "dataset.root=FOLDER"].

    Raises:
        UserError: in one line, where train.py exits with 2.
    """
    return _run("train", training.train, overrides)


def evaluate(overrides: Sequence[str] = ()) -> Run:
    """Evaluate as `python eval.py OVERRIDES` does, and return the results.

    Args:
        overrides: as ["checkpoint=RUN/checkpoints/best.pt", "split=test"].

    Raises:
        UserError: in one line, where eval.py exits with 2.
    """
    return _run("eval", commands.evaluation, overrides)


def _run(name: str, task: Callable[[DictConfig], Any], overrides: Sequence[str]) -> Run:
    with LOCK:
        cfg = compose(name, overrides)
        with (
            as_application(cfg) as folder,
            _logged(cfg),
            explained(cfg.hydra.job.config_name, cfg.hydra.overrides.task),
        ):
            automatic.announce()
            try:
                task(without_hydra(cfg))
            except Stopped as stopped:
                signal.raise_signal(stopped.args[0])
                raise UserError(str(stopped.args[-1])) from None
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return Run(
            folder=folder,
            primary=found["primary_name"],
            value=found["primary_value"],
            metrics=found["metrics"],
            protocol=found["protocol"],
        )


@contextmanager
def as_application(cfg: DictConfig) -> Iterator[Path]:
    """Let Hydra's configuration be this one, as in a command; yields the folder of the run."""
    state = HydraConfig.instance()
    before, folder = state.cfg, Path(cfg.hydra.run.dir).absolute()
    with read_write(cfg.hydra.runtime), open_dict(cfg.hydra.runtime):
        cfg.hydra.runtime.output_dir = str(folder)
    state.set_config(cfg)
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{error.strerror}: {error.filename}; set hydra.run.dir=FOLDER"
            ) from error
        yield folder
    finally:
        state.cfg = before


@contextmanager
def _logged(cfg: DictConfig) -> Iterator[None]:
    """Write messages to the run's log, and show them where the program does not by itself."""
    logger, settings = logging.getLogger("onelook"), cfg.hydra.job_logging
    level, handlers = logger.level, dict[str, logging.Handler]()
    if not logger.hasHandlers():
        handlers["console"] = logging.StreamHandler(sys.stdout)
        handlers["console"].setFormatter(TerminalFormatter("%(message)s"))
    if file := settings.handlers.get("file"):
        handlers["file"] = logging.FileHandler(file.filename, delay=True)
        handlers["file"].setFormatter(logging.Formatter(settings.formatters.simple.format))
    wanted = [handlers[name] for name in settings.root.handlers if name in handlers]
    for handler in wanted:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in wanted:
            logger.removeHandler(handler)
            handler.close()
