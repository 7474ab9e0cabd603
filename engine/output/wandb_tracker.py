"""A run in Weights & Biases, by `wandb.init` and what it returns, as docs.wandb.ai has them."""

from pathlib import Path
from typing import Any

from engine.output.trackers import NoTracker, Seconds, client

STEP = "step"  # W&B's own counter refuses what a resumed run repeats


class WandB(NoTracker):
    """`timeout` is of the start, `upload_timeout` of what is still to be sent at the end."""

    def __init__(self, *, project: str, entity: str | None = None, timeout: Seconds = 30,
                 upload_timeout: Seconds = 300) -> None:  # fmt: skip
        self.wandb = client("wandb", "wandb")
        self.project, self.entity = project, entity
        self.limits = {"init_timeout": timeout, "login_timeout": timeout,
                       "finish_timeout": upload_timeout}  # fmt: skip

    def start(self, config: dict[str, Any], folder: Path, name: str, last: str | None) -> Any:
        """Begin a run, or go on with that of `last`."""
        self.run = self.wandb.init(
            project=self.project, entity=self.entity, dir=str(folder), config=config,
            id=last, name=None if last else name, resume="allow", allow_val_change=True,
            reinit="finish_previous", settings=self.wandb.Settings(**self.limits),
        )  # fmt: skip
        self.run.define_metric("*", step_metric=STEP)
        return self.run.id

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Log them; they are sent in the background."""
        self.run.log({**values, STEP: step})

    def file(self, path: Path) -> None:
        """Log an artifact."""
        self.run.log_artifact(str(path), type="model" if path.suffix == ".pt" else "result")

    def finish(self, results: dict[str, float] | None) -> None:
        """Set the summary, and wait until all is sent."""
        self.run.summary.update(results or {})
        self.run.finish(exit_code=0 if results else 1)
