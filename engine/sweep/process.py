"""A training in a process of its own, which ends when the process that started it does."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.console import UNPRINTABLE
from engine.errors import UserError
from engine.output import folder_lock

ROOT = Path(__file__).parents[2]
LOG = "console.log"  # what a trial prints, errors too
START = (
    "from engine.sweep.process import end_with; end_with({}); "
    "from engine.commands import train; train()"
)
PATIENCE = 120.0  # seconds in which a trial has to save itself


class Process:
    """A trial's training.

    Args:
        folder: of its run.
        overrides: of its command line.
        environment: variables that it gets besides this process's own.
    """

    def __init__(
        self, folder: Path, overrides: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _wait_for(folder)
        self.folder, self.started, self.killed_at = folder, time.monotonic(), float("inf")
        ours, theirs = os.pipe()  # ours ends their reading by ending itself
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        run = [f"hydra.run.dir='{folder}'", "resume=auto", *overrides]
        with open(folder / LOG, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START.format(ours), *run],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment, "PYTHONPATH": path},
                pass_fds=[ours],
            )
        os.close(ours)
        self.pipe = theirs

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        if time.monotonic() > self.killed_at:
            self.process.kill()
        code = self.process.poll()
        if code is not None and self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1
        return code

    def stop(self) -> None:
        """Ask it to save and to end; it is killed if that takes too long."""
        self.process.send_signal(signal.SIGTERM)
        self.killed_at = time.monotonic() + PATIENCE

    def last_line(self) -> str:
        """Return the last line that it printed, which says why it failed."""
        text = (self.folder / LOG).read_text(errors="replace")
        lines = [UNPRINTABLE.sub(" ", line).strip() for line in text.splitlines()]
        return next((line.removeprefix("error: ") for line in reversed(lines) if line), "")


def end_with(pipe: int) -> None:
    """Send this process SIGTERM when the process that holds the pipe's other end is gone."""

    def wait() -> None:
        os.read(pipe, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _wait_for(folder: Path) -> None:
    """Wait for a training whose sweeper was killed: it saves itself and ends."""
    limit = time.monotonic() + PATIENCE
    while folder_lock.is_held(folder):
        if time.monotonic() > limit:
            raise UserError(f"{folder}: another process trains there and does not end; end it")
        time.sleep(0.1)
