"""The trials that run on this machine now."""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import Trial, TrialState

from engine.output import leaderboard
from engine.sweep.process import Process
from engine.sweep.search import Search
from engine.sweep.table import Table

TENTHS = 10  # steps of a trial whose budget is minutes
KILLS = 3  # in a row, without an epoch between them, after which a trial counts as failed
STOPPED = 128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT


@dataclass
class Running:
    """A trial and its process.

    Args:
        trial: of Optuna.
        place: where it runs, of those that there are.
        process: its training.
        kills: how often its process was killed since its last epoch.
        epochs: that it had trained when it was last killed.
        seen: when its metrics.csv was last written, of what was reported.
    """

    trial: Trial
    place: int
    process: Process
    kills: int = 0
    epochs: int = 0
    seen: float = 0.0

    @property
    def is_pruned(self) -> bool:
        """Whether it was asked to end; by a sweeper that was killed, perhaps."""
        return "pruned" in self.trial.user_attrs

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.process.folder


class Trials:
    """Starts trials of a search, watches them, ends them and tells the study.

    Args:
        search: the study.
        minutes: of a trial; None where it is a number of epochs.
        places: variables of the environment of each place where a trial can run.
        passed_on: arguments of Hydra's that every trial gets.
    """

    def __init__(
        self,
        search: Search,
        minutes: float | None,
        places: Sequence[dict[str, str]],
        passed_on: Sequence[str] = (),
    ) -> None:
        self.search, self.minutes, self.places = search, minutes, places
        self.passed_on = passed_on
        self.running: list[Running] = []
        self.failed: list[leaderboard.Job] = []  # here, since the start
        self.table = Table(search.trials)

    def go_on(self) -> bool:
        """Look at every trial, start others; return whether there is anything left to wait for."""
        ended = [one for one in self.running if self._has_ended(one)]
        self.running = [one for one in self.running if one not in ended]
        self.search.sweepers.beat()
        free = sorted({*range(len(self.places))} - {one.place for one in self.running})
        for place in free:
            trial = self.search.next()
            if trial is None:
                break
            self.running.append(Running(trial, place, self._start(trial, place)))
            leaderboard.write(self.search.folder, self.search.jobs())
        if self.table.is_quiet():
            self.table.show_running(self.search.jobs())
        return bool(self.running)

    def _start(self, trial: Trial, place: int) -> Process:
        overrides = [*self.search.space.fixed, *trial.user_attrs["settings"]]
        number = f"hydra.job.num={trial.number}"
        folder = self.search.folder / str(trial.number)
        return Process(folder, [*self.passed_on, *overrides, number], self.places[place])

    def _has_ended(self, one: Running) -> bool:
        code = one.process.poll()
        self._report(one)
        if code is None:
            return False
        was_stopped = code in STOPPED or code < 0
        if (was_stopped or not code) and leaderboard.results(one.folder):
            self._end(one, TrialState.COMPLETE, 0)  # it may have been stopped in its last moments
        elif was_stopped and one.is_pruned:
            self._end(one, TrialState.PRUNED, code)
        elif was_stopped:
            return self._was_killed(one, code)
        else:
            self._end(one, TrialState.FAIL, code or 1)
        return True

    def _report(self, one: Running) -> None:
        """Report the epochs that a trial has trained, and end it where it falls behind."""
        path = one.folder / "metrics.csv"
        written = path.stat().st_mtime if path.exists() else 0.0
        if one.is_pruned or written == one.seen:
            return
        one.seen = written
        if self.search.should_prune(one.trial, self._values(one.folder)):
            one.trial.set_user_attr("pruned", True)
            one.process.stop()

    def _values(self, folder: Path) -> dict[int, float]:
        """The objective at each step of a trial: an epoch, or a tenth of its minutes."""
        values: dict[int, float] = {}
        rows = leaderboard.epochs(folder)
        column = self.search.column(rows[0]) if rows else ""
        for row in rows:
            if value := row.get(column):
                values.setdefault(self._step(row), float(value))
        return values

    def _step(self, row: dict[str, str]) -> int:
        if not self.minutes:
            return int(row["epoch"])
        return min(int(TENTHS * float(row["seconds"]) / (60 * self.minutes)), TENTHS)

    def _was_killed(self, one: Running, code: int) -> bool:
        """Start a trial again whose process was killed; return whether it failed by that."""
        trained = len(leaderboard.epochs(one.folder))
        one.kills = one.kills + 1 if trained <= one.epochs else 1
        one.epochs = trained
        if one.kills > KILLS:
            name = signal.Signals(-code).name if code < 0 else f"code {code}"
            reason = f"killed {one.kills} times ({name}), perhaps for want of memory"
            self._end(one, TrialState.FAIL, code, reason)
            return True
        one.process = self._start(one.trial, one.place)
        return False

    def _end(self, one: Running, state: TrialState, code: int, reason: str = "") -> None:
        if state == TrialState.FAIL:
            reason = reason or one.process.last_line()
        self.search.end(one.trial, state, one.folder, code, reason)
        jobs = self.search.jobs()
        leaderboard.write(self.search.folder, jobs)
        job = jobs[one.trial.number]
        self.failed += [job] if job.state == "failed" else []
        self.table.row(jobs, one.trial.number, one.trial.user_attrs["settings"])

    def stop(self) -> None:
        """Let every trial save itself and end; the next sweeper goes on with them."""
        for one in self.running:
            one.process.stop()
        while any(one.process.poll() is None for one in self.running):
            time.sleep(0.05)
        self.running = []
