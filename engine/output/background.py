"""Work that goes on beside the network: drawing, encoding and writing of images."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

AHEAD = 2  # calls that wait, of each thread


class Background:
    """Calls functions in threads, in the order of `call`; with one thread, one after the other.

    Few calls wait at a time, so that memory stays flat. An error of one is raised by a later call,
    or at the end of the `with` block, which waits for all of them unless an error ends it.

    Args:
        threads: 0 calls them at once.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "output") if threads else None
        self._most = AHEAD * threads
        self._pending: deque[Future[Any]] = deque()

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function soon; waits while too many others do."""
        if self._pool is None:
            function(*arguments)
            return
        while len(self._pending) > self._most:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(function, *arguments))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            while error is None and self._pending:
                self._pending.popleft().result()
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
