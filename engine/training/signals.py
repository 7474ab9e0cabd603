"""SIGTERM and Ctrl-C: noted while a step runs, acted on between two."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from engine.distributed.collectives import DelayedAllReduceMax
from engine.errors import Stopped

CAUGHT = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """While entered, a signal sets `caught`; whoever trains looks at it and calls `stop`."""

    def __init__(self) -> None:
        self.caught = 0
        self.agreed = DelayedAllReduceMax()  # the processes of a run stop at one step
        self.waiting = False  # whether nothing changes that a signal could tear

    def __enter__(self) -> Self:
        self.before = {number: signal.signal(number, self._note) for number in CAUGHT}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: Any) -> None:
        self.caught = number
        if self.waiting:
            raise Stopped(number)

    def stop(self) -> None:
        """Raise what was caught, in any process, if anything was."""
        if number := self.agreed(self.caught):
            raise Stopped(number)

    @contextmanager
    def at_once(self, alone: bool = True) -> Iterator[None]:
        """Inside, a signal stops at once instead of waiting to be looked at.

        Args:
            alone: whether a process can stop without the others; it waits where it cannot.
        """
        self.stop()
        self.waiting = alone
        try:
            self.stop()  # what has come since, or what the first call heard late
            yield
        finally:
            self.waiting = False
