"""SIGTERM and Ctrl-C: noted while a step runs, acted on between two."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from engine.errors import Stopped

CAUGHT = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """While entered, a signal sets `caught`; whoever trains looks at it and calls `stop`."""

    def __init__(self) -> None:
        self.caught = 0
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
            self.stop()

    def stop(self) -> None:
        """Raise what was caught, if anything was."""
        if self.caught:
            raise Stopped(self.caught)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal stops at once instead of waiting to be looked at."""
        self.waiting = True
        try:
            self.stop()
            yield
        finally:
            self.waiting = False
