"""What takes the numbers of a run while it trains: metrics.csv, TensorBoard, and `tracker=`'s."""

import importlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf

from engine.config.ranges import Range
from engine.console import info
from engine.errors import UserError
from engine.output.events import Events
from engine.output.table import format_rows
from engine.protocols import Tracker
from engine.whole_file import write_whole

Seconds = Annotated[int, Range(1, 3600)]
RECORD = "tracker.json"  # in the run folder: the class of its tracker, and its id of the run


class NoTracker:
    """Takes every call and does nothing: `tracker=none`, and a base for what has less to do."""

    def start(self, config: dict[str, Any], folder: Path, name: str, last: str | None) -> Any:
        """No run begins."""

    def scalars(self, values: dict[str, float], step: int) -> None:
        """No number is kept."""

    def file(self, path: Path) -> None:
        """No file is kept."""

    def finish(self, results: dict[str, float] | None) -> None:
        """No run ends."""


def is_recorded(folder: Path) -> bool:
    """Whether a run of this folder was in a tracker."""
    return (folder / RECORD).exists()


def leave_out(node: DictConfig) -> DictConfig:
    """Return the node of no tracker for that of a checkpoint; say so where it had one.

    A checkpoint may be a stranger's, and a tracker sends the run to a server.
    """
    name = f"{NoTracker.__module__}.{NoTracker.__qualname__}"
    if node.get("_target_") != name:
        info(
            f"tracker: {node.get('_target_')} of the checkpoint is left out, as no run of this "
            "folder was in it; tracker=NAME starts one"
        )
    return OmegaConf.create({"_target_": name})


class CSV(NoTracker):
    """A table with a row an epoch, written whole each time.

    Args:
        path: of the table.
        rows: of the epochs before a run was resumed.
    """

    def __init__(self, path: Path, rows: Iterable[dict[str, float]] = ()) -> None:
        self.path, self.rows, self.complete = path, list(rows), True

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add the row of an epoch; numbers of a step are left out."""
        if "epoch" in values:
            self.rows.append(values)
            self.complete = False
        self.finish(None)

    def finish(self, results: dict[str, float] | None) -> None:
        """Write the rows that the file lacks, of an earlier call where the disk was full."""
        if not self.complete:
            write_whole(self.path, format_rows(self.rows))
        self.complete = True


class TensorBoard(NoTracker):
    """The scalars in a file of TensorBoard, which has images and curves from `RunLog` too."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write each number under its own tag."""
        for key, value in values.items():
            self.events.scalar(key, value, step)


class BestEffort:
    """A tracker whose errors cost its own record alone: the first is a line, then it is left out.

    A run that goes on in its folder goes on in the tracker, by the id in tracker.json.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.failed = tracker, False
        self.kind = f"{type(tracker).__module__}.{type(tracker).__qualname__}"

    def start(self, config: dict[str, Any], folder: Path, name: str, last: str | None) -> None:
        """Begin a run, or go on with that of tracker.json, or with `last`."""
        path = folder / RECORD
        number = self._call("start", config, folder, name, self._recorded(path) or last)
        if number is not None:
            info(f"tracker: {type(self.tracker).__name__} has this run as {number}")
            write_whole(path, json.dumps({"tracker": self.kind, "id": str(number)}) + "\n")

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Pass the numbers on."""
        self._call("scalars", values, step)

    def file(self, path: Path) -> None:
        """Pass the file on."""
        self._call("file", path)

    def finish(self, results: dict[str, float] | None) -> None:
        """End the run."""
        self._call("finish", results)

    def _recorded(self, path: Path) -> str | None:
        """The id of a run that this kind of tracker began in the folder."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            return str(record["id"]) if record["tracker"] == self.kind else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _call(self, name: str, *arguments: Any) -> Any:
        if self.failed:
            return None
        try:
            return getattr(self.tracker, name)(*arguments)
        except Exception as error:  # a client has no fixed set of errors
            self.failed = True
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            info(f"tracker: {type(self.tracker).__name__} is left out from here on, training goes "
                 f"on ({reason[:300]})")  # fmt: skip
            return None


def client(name: str, package: str) -> Any:
    """The module of a tracker's client.

    Raises:
        UserError: it is not installed, or cannot be imported.
    """
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it has a line for every retry
    try:
        return importlib.import_module(name)
    except Exception as error:  # a client that does not fit its own dependencies raises anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"tracker={name} needs {name} ({reason}): pip install {package}, or tracker=none"
        ) from error


def flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """The values of a configuration as text, by dotted key."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", str(value)[:500]  # what every server of MLflow takes
