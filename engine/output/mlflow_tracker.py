"""A run in MLflow, by `mlflow.MlflowClient`. MLflow's own environment variables win."""

import os
import re
import time
from pathlib import Path
from typing import Any

from engine.output.trackers import NoTracker, Seconds, client, flat


class MLflow(NoTracker):
    """A request may take `timeout` seconds, twice; `uri` None is $MLFLOW_TRACKING_URI."""

    def __init__(self, *, experiment: str, uri: str | None = None, timeout: Seconds = 30) -> None:
        self.mlflow = client("mlflow", "mlflow-skinny")
        self.experiment, self.uri, self.timeout = experiment, uri, timeout

    def start(self, config: dict[str, Any], folder: Path, name: str, last: str | None) -> Any:
        """Begin a run, or mark that of `last` as running."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(self.timeout))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        self.server, self.run = self.mlflow.MlflowClient(self.uri), last
        if last:
            self.server.update_run(last, status="RUNNING")
            return last
        found = self.server.get_experiment_by_name(self.experiment)
        number = found.experiment_id if found else self.server.create_experiment(self.experiment)
        self.run = self.server.create_run(number, run_name=name).info.run_id
        self._send("params", self.mlflow.entities.Param, dict(flat(config)))
        return self.run

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Log them in one request a hundred."""
        self._send("metrics", self.mlflow.entities.Metric, values, int(time.time() * 1000), step)

    def file(self, path: Path) -> None:
        """Send an artifact of the run."""
        self.server.log_artifact(self.run, str(path))

    def finish(self, results: dict[str, float] | None) -> None:
        """Log the results, and the run as finished or killed."""
        self.scalars(results or {}, 0)
        self.server.set_terminated(self.run, "FINISHED" if results else "KILLED")

    def _send(self, kind: str, make: Any, values: dict[str, Any], *more: int) -> None:
        rows = [make(re.sub(r"[^\w./ -]", "_", key), value, *more) for key, value in values.items()]
        for i in range(0, len(rows), 100):  # what a request may hold
            self.server.log_batch(self.run, **{kind: rows[i : i + 100]})
