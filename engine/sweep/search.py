"""A study by Optuna's ask and tell: which trial is next, what it reports, how it ended."""

import signal
import time
import warnings
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, Trial, TrialState

from engine.errors import UserError
from engine.output import leaderboard
from engine.output.leaderboard import LESS_IS_BETTER, Job
from engine.output.table import format_csv
from engine.sweep import samplers
from engine.sweep.options import Options
from engine.sweep.space import Space
from engine.sweep.storage import Sweepers, open_storage
from engine.whole_file import write_whole

FEW = 4  # different values, below which nothing is known of the keys' importance
PRUNED = 128 + signal.SIGTERM  # the exit code of a trial that was asked to end
NEW = 60.0  # seconds in which a sweeper has written its name on a trial that it began
STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
}


class Search:
    """A study that this process works on, with others or alone.

    Args:
        folder: of the sweep.
        space: what the trials vary.
        options: how they are chosen and ended.
        steps: of a trial at which it is judged, at most: epochs, or tenths of its minutes.

    Raises:
        UserError: the storage has another search under this name, or cannot be opened.
    """

    def __init__(self, folder: Path, space: Space, options: Options, steps: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", module="optuna")
        self.folder, self.space, self.options, self.steps = folder, space, options, steps
        self.sweepers = Sweepers(folder)
        self.objectives = [*options.objectives] or ["metric"]
        with self.sweepers.alone():
            self.study = self._open(samplers.pruner(options, steps))
            self._check_same()
        self.grid = space.grid() if options.sampler == "grid" else []
        self.trials = min(options.trials, len(self.grid)) if self.grid else options.trials

    def _open(self, pruner: BasePruner) -> optuna.Study:
        try:
            return optuna.create_study(
                storage=open_storage(self.options.storage, self.folder),
                study_name=self.folder.name,
                pruner=pruner,
                directions=[_direction(name) for name in self.objectives],
                load_if_exists=True,
            )
        except Exception as error:  # of any database
            where = self.options.storage or self.folder / "study.log"
            raise UserError(f"{where}: not opened: {str(error).splitlines()[0]}") from error

    def _check_same(self) -> None:
        """Refuse to mix two searches in one study."""
        ours = {"fixed": sorted(self.space.fixed), "objectives": self.objectives,
                "varied": {key: repr(of) for key, of in self.space.varied.items()}}  # fmt: skip
        theirs = self.study.user_attrs.get("search")
        if theirs is None:
            self.study.set_user_attr("search", ours)
        elif theirs != ours:
            raise UserError(
                f"{self.folder}: has another search, {_difference(theirs, ours)}; set another "
                "hydra.sweep.dir"
            )
        if not self.study.get_trials(deepcopy=False) and (self.folder / "0").exists():
            raise UserError(f"{self.folder}: has trials of another study; set another folder")

    @property
    def metric(self) -> str:
        """The name of the primary metric; "" until a trial was evaluated."""
        return self.study.user_attrs.get("metric", "")

    def next(self) -> Trial | None:
        """Return a trial to work on: of a sweeper that died, or a new one; None: none is left."""
        with self.sweepers.alone():
            trials = self.study.get_trials(deepcopy=False)
            left = [Trial(self.study, one._trial_id) for one in trials if self._is_left(one)]
            half_done = [trial for trial in left if not self._was_pruned(trial)]
            if half_done:
                trial = half_done[0]
            elif len(trials) >= self.trials and not _waiting(trials):
                return None
            else:
                trial = self._new(len(trials), trials)
            trial.set_user_attr("sweeper", self.sweepers.me)
            trial.set_user_attr("settings", self.space.settings(trial))
        return trial

    def _was_pruned(self, trial: Trial) -> bool:
        """Whether a sweeper that died had asked a trial to end; it has ended then, in a moment."""
        folder = self.folder / str(trial.number)
        if "pruned" not in trial.user_attrs:
            return False
        state = TrialState.COMPLETE if leaderboard.results(folder) else TrialState.PRUNED
        self.end(trial, state, folder, 0 if state == TrialState.COMPLETE else PRUNED, "")
        return True

    def _new(self, number: int, trials: Sequence[FrozenTrial]) -> Trial:
        # Seeded by its number: a sampler that starts anew would draw its first trials again.
        seed = int(np.random.SeedSequence([self.options.seed, number]).generate_state(1)[0])
        self.study.sampler = samplers.sampler(self.options, seed)
        if self.grid and not _waiting(trials):
            self.study.enqueue_trial(self.grid[number])
        return self.study.ask()

    def _is_left(self, trial: FrozenTrial) -> bool:
        """Whether a trial is half done and nobody works on it."""
        if trial.state != TrialState.RUNNING:
            return False
        sweeper = trial.user_attrs.get("sweeper")
        if sweeper is None:
            start = trial.datetime_start
            return start is None or time.time() - start.timestamp() > NEW
        return not self.sweepers.is_alive(sweeper)

    def column(self, row: dict[str, str]) -> str:
        """Return the column of metrics.csv that the first objective has; the primary's is first.

        Raises:
            UserError: the trials have no number of an objective's name.
        """
        names = [key.removeprefix("val/") for key in row if key.startswith("val/")]
        known = {"metric", *LESS_IS_BETTER, *names}
        if names and (unknown := [name for name in self.objectives if name not in known]):
            raise UserError(
                f"hydra.sweeper.objectives: got {unknown[0]}; the trials have "
                f"{', '.join([*names, *LESS_IS_BETTER])}"
            )
        if names and not self.metric:
            self.study.set_user_attr("metric", names[0])
        first = self.objectives[0]
        return f"val/{names[0] if first == 'metric' else first}" if names else ""

    def should_prune(self, trial: Trial, values: dict[int, float]) -> bool:
        """Report the values of a trial, by step, and return whether to end it."""
        if len(self.objectives) > 1:
            return False  # Optuna takes no reports of several
        known = trial.storage.get_trial(trial._trial_id).intermediate_values
        for step in values.keys() - known.keys():
            trial.report(values[step], step)
        return bool(values) and max(values) < self.steps and trial.should_prune()

    def end(self, trial: Trial, state: TrialState, folder: Path, code: int, reason: str) -> None:
        """Note how a trial ended."""
        found = leaderboard.results(folder) if state == TrialState.COMPLETE else {}
        reached = [_value(name, found, folder) for name in self.objectives] if found else []
        values = [value for value in reached if value is not None and isfinite(value)]
        if len(values) < len(reached):
            state, values = TrialState.FAIL, []
            reason = f"{' or '.join(self.objectives)} is not a finite number of metrics.json"
        rows = leaderboard.epochs(folder)
        trial.set_user_attr("epochs", len(rows))
        trial.set_user_attr("seconds", float(rows[-1]["seconds"]) if rows else 0.0)
        trial.set_user_attr("code", code)
        trial.set_user_attr("reason", reason)
        self.study.tell(trial, values or None, state=state)

    def jobs(self) -> list[Job]:
        """Return every trial, by number."""
        trials = self.study.get_trials(deepcopy=False)
        names = [self.metric or name if name == "metric" else name for name in self.objectives]
        return [self._job(trial, names) for trial in trials]

    def _job(self, trial: FrozenTrial, names: Sequence[str]) -> Job:
        of = trial.user_attrs
        values = trial.values if trial.state == TrialState.COMPLETE else None
        if trial.state != TrialState.COMPLETE and trial.intermediate_values:
            values = [max(trial.intermediate_values.values())]
        is_left = self._is_left(trial)
        return Job(
            name=str(trial.number),
            state="stopped" if is_left else STATES[trial.state],
            overrides=[*self.space.fixed, *of.get("settings", ())],
            values=dict(zip(names, values or (), strict=False)),
            epochs=of.get("epochs"),
            seconds=of.get("seconds"),
            code=of.get("code"),
            reason=of.get("reason", ""),
        )

    def write_importance(self) -> None:
        """Write importance.csv: each key's share in how much the trials that are done differ."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(self.objectives) > 1 or len({trial.value for trial in done}) < FEW:
            return
        evaluator = PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        write_whole(
            self.folder / "importance.csv", format_csv(("key", "importance"), found.items())
        )


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """What one search has and another has not."""
    texts = [
        [*of["fixed"], *(f"{key}: {text}" for key, text in of["varied"].items()), *of["objectives"]]
        for of in (theirs, ours)
    ]
    less, more = ([t for t in a if t not in b] for a, b in (texts, reversed(texts)))
    return f"with {', '.join(less) or 'less'} where this one has {', '.join(more) or 'nothing'}"


def _waiting(trials: Sequence[FrozenTrial]) -> bool:
    return any(trial.state == TrialState.WAITING for trial in trials)


def _direction(name: str) -> Literal["minimize", "maximize"]:
    return "minimize" if name in LESS_IS_BETTER else "maximize"


def _value(name: str, found: dict[str, Any], folder: Path) -> float | None:
    """An objective of a trial that is done."""
    if name == "metric":
        return found["primary_value"]
    if name == "seconds":
        return found["seconds"]
    if name == "size":
        return (folder / "checkpoints/best.pt").stat().st_size / 1e6
    return found["metrics"].get(name)
