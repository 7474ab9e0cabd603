"""SIGTERM, SIGUSR1 and Ctrl-C: noted while a step runs, obeyed between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from engine.distributed.collectives import DelayedAllReduceMax
from engine.errors import Stopped

# Schedulers warn of the end of a job's time by SIGTERM or SIGUSR1; Windows lacks the latter.
CAUGHT = [s for s in signal.Signals if s.name in ("SIGTERM", "SIGINT", "SIGUSR1")]


class Signals:
    """Inside the `with` block a signal only sets `caught`; `stop`, between steps, raises it."""

    def __init__(self) -> None:
        self.caught = 0
        self.agreed = DelayedAllReduceMax()  # so that all processes stop at the same step
        self.interruptible = False  # whether a signal raises at once

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()  # no other gets signals
        caught = CAUGHT if is_main else ()
        self.handlers = {number: signal.signal(number, self._note) for number in caught}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: Any) -> None:
        self.caught = number
        if self.interruptible:
            raise Stopped(number)

    def stop(self) -> None:
        """Raise `Stopped` if a signal was caught in any process."""
        if number := self.agreed(self.caught):
            raise Stopped(number)

    @contextmanager
    def at_once(self, alone: bool = True) -> Iterator[None]:
        """Make a signal inside the `with` block raise `Stopped` at once.

        Args:
            alone: whether a process can stop without the others; if not, the signal only sets
                `caught`, as outside.
        """
        self.stop()
        self.interruptible = alone
        try:
            self.stop()  # a signal since the call above, or another process's, seen a call late
            yield
        finally:
            self.interruptible = False
