"""What a search is asked for: the keys of configs/hydra/sweeper/study.yaml. No torch here."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from engine.config.ranges import Count, Length, PartialShare, Range, Seed, ZeroOrMore, check_value
from engine.config.schema import plain_value
from engine.errors import UserError


@dataclass
class Options:
    """The keys of the sweeper; the file says what each means."""

    dir: str
    trials: Count
    parallel: Annotated[int, Range(1, 1000)] | None
    devices: list[Any] | None
    sampler: Literal["tpe", "gp", "random", "grid"]
    pruner: Literal["halving", "median", "hyperband", "none"]
    warmup: PartialShare
    startup: ZeroOrMore
    objectives: Annotated[list[str], Length(0, 10)]
    storage: str | None
    seed: Seed

    def check(self) -> None:
        """Raise UserError where a value is none that its key can have."""
        for key, hint in get_type_hints(Options, include_extras=True).items():
            check_value(plain_value(getattr(self, key)), hint, f"hydra.sweeper.{key}")
        if len(self.objectives) > 1 and self.pruner != "none":
            raise UserError(
                f"hydra.sweeper.pruner={self.pruner}: several objectives have no order to prune "
                "by; set hydra.sweeper.pruner=none"
            )
        if self.storage and "://" not in self.storage and not self.storage.endswith(".log"):
            raise UserError(
                f"hydra.sweeper.storage={self.storage}: expected a URL, sqlite:///FILE or "
                "postgresql://..., or a journal, FILE.log"
            )

    def places(self) -> list[dict[str, str]]:
        """Return the variables of the environment of each place where a trial can run."""
        devices = [str(each) for each in self.devices] if self.devices else _devices()
        count = self.parallel or max(1, len(devices))
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
        shared = threads if count > 1 and "OMP_NUM_THREADS" not in os.environ else {}
        chosen = [{"CUDA_VISIBLE_DEVICES": device} for device in devices] or [{}]
        return [shared | chosen[i % len(chosen)] for i in range(count)]


def _devices() -> list[str]:
    """The GPUs of this machine, without torch."""
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return visible.split(",")
    if not shutil.which("nvidia-smi"):
        return []
    asked = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(asked, capture_output=True, text=True)
    return found.stdout.split() if found.returncode == 0 else []
