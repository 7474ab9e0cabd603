"""The sweeper `hydra/sweeper=study`: starts trials, watches them, ends those that fall behind."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from engine.config.check import check_values
from engine.console import show
from engine.errors import JobFailed, Stopped, UserError
from engine.output import leaderboard
from engine.sweep.options import Options

if TYPE_CHECKING:
    from engine.sweep.search import Search
    from engine.sweep.space import Space
    from engine.sweep.trials import Trials

POLL = 0.3  # seconds between two looks at the trials
OURS = ("resume", "overwrite")  # keys that a search sets itself


class Study(Sweeper):
    """Searches with Optuna; each trial is a training in a process of its own.

    The arguments are the fields of `Options`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = Options(**options)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives every sweeper."""
        self.loader: Any = hydra_context.config_loader
        self.config: Any = config
        self.command = task_function.__module__

    def sweep(self, arguments: list[str]) -> None:
        """Work on the study until no trial is left.

        Raises:
            UserError: the search cannot be started as it is asked for.
            JobFailed: a trial failed now, or all did; the others are done.
            Stopped: a signal ended the search; the trials that ran have saved.
        """
        self._check_hydra()
        self.options.check()
        try:
            from engine.sweep import search, space, trials
        except ModuleNotFoundError as error:
            raise UserError(
                f'hydra/sweeper=study needs {error.name}: pip install "onelook[sweep]"'
            ) from None
        folder = Path(self.config.hydra.sweep.dir).absolute()
        of = space.read(arguments, self.loader)
        trainer = self._check_values(of).trainer
        steps = trials.TENTHS if trainer.minutes else trainer.epochs
        found = search.Search(folder, of, self.options, steps)
        work = trials.Trials(found, trainer.minutes, self.options.places(), self._passed_on())
        self._begin(found)
        try:
            caught = self._work(found, work)
        finally:
            jobs = found.jobs()
            leaderboard.write(folder, jobs)
        if caught:
            message = "search stopped, its trials have saved; the same command goes on with them"
            raise Stopped(caught[0], message)
        found.sweepers.leave()
        found.write_importance()
        is_any_done = any(job.state == "done" for job in jobs)
        failed = [job for job in (work.failed if is_any_done else jobs) if job.state == "failed"]
        if failed:
            raise JobFailed(failed[0].code or 1, failed[0].reason)

    def _begin(self, found: "Search") -> None:
        """Print where the search is, and what it goes on with."""
        rows = found.jobs()
        left = found.trials - sum(job.state in ("done", "pruned", "failed") for job in rows)
        states = leaderboard.counts(job.state for job in rows)
        goes_on = f" goes on: {states}," if rows else ":"
        more = "" if left > 0 else "; more of them: hydra.sweeper.trials=N"
        show(f"search {found.folder}{goes_on} {max(left, 0)} of {found.trials} trials left{more}")

    def _work(self, found: "Search", work: "Trials") -> list[int]:
        """Run trials until none is left, or a signal comes; return the signals."""
        with found.sweepers.joined(), _signals() as caught:
            try:
                while not caught and work.go_on():
                    time.sleep(POLL)
            finally:
                work.stop()
        return caught

    def _check_hydra(self) -> None:
        """Refuse what of Hydra a search has no use for."""
        hydra = self.config.hydra
        if self.command != "train":
            raise UserError(
                f"hydra/sweeper=study: trials are trainings, which {self.command} has not"
            )
        if hydra.runtime.choices.get("hydra/launcher") != "basic":
            raise UserError(
                "hydra/launcher: a search starts its trials itself; set hydra.sweeper.parallel=N"
            )
        if OmegaConf.to_container(hydra.sweep)["subdir"] != "${hydra.job.num}":  # type: ignore
            raise UserError("hydra.sweep.subdir: a trial's folder is its number; leave it out")

    def _check_values(self, of: "Space") -> DictConfig:
        """Compose a configuration with every value that a key can have; return the first.

        Raises:
            UserError: a value is none that its key can have, or the search sets its key.
        """
        for text in [*of.fixed, *of.varied]:
            if text.lstrip("+").partition("=")[0] in OURS:
                raise UserError(f"{text}: a search sets it for each trial; leave it out")
        first = {key: of.ends(key)[0] for key in of.varied}
        ends = [first | {key: value} for key in of.varied for value in of.ends(key)]
        configs = [self._compose([*of.fixed, *each.values()]) for each in ends]
        return configs[0]

    def _compose(self, overrides: list[str]) -> DictConfig:
        cfg = self.loader.load_sweep_config(self.config, overrides)
        check_values(cfg)
        return cfg

    def _passed_on(self) -> list[str]:
        """What of Hydra's own arguments the trials get too: where other configurations are."""
        hydra = self.config.hydra
        ours = ("hydra.sweep", "hydra/sweeper", "hydra.mode", "hydra.run")
        overrides = [text for text in hydra.overrides.hydra if not text.startswith(ours)]
        for source in hydra.runtime.config_sources:
            if source.provider == "command-line":
                overrides += ["--config-dir", source.path]
        return overrides


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals, SIGTERM and Ctrl-C, that were caught inside the `with` block."""
    caught: list[int] = []
    numbers = signal.SIGTERM, signal.SIGINT
    before = {n: signal.signal(n, lambda number, _: caught.append(number)) for n in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
