"""Hydra's own sweeper of lists, made to look before it leaps and to go on after a failure.

No import of torch here: see `engine.cli`.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn, JobStatus

from engine.config.check import check_values


class Grid(BasicSweeper):
    """Every combination of values, by whatever launcher.

    The values of a batch, by default of all jobs, are checked before its first job starts. A job
    that fails ends neither its batch nor those after it; at the end the first failure is raised.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the jobs; raises what the first one that failed raised."""
        failures: list[Exception] = []
        assert self.launcher is not None
        launch = self.launcher.launch

        def go_on(batch: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            results = launch(batch, initial_job_idx)
            failures.extend(r._return_value for r in results if r.status == JobStatus.FAILED)
            return [r for r in results if r.status != JobStatus.FAILED]

        self.launcher.launch = go_on  # type: ignore[method-assign]
        results = super().sweep(arguments)
        if failures:
            raise failures[0]
        return results

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose the jobs of a batch and check their values."""
        assert self.hydra_context is not None and self.config is not None
        for overrides in batch:
            loader = self.hydra_context.config_loader
            check_values(loader.load_sweep_config(self.config, list(overrides)))
