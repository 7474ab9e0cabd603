"""Makes what waits for its bytes ahead of its turn, by threads."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Keys(list[Any]):
    """The keys of a batch, and in `ahead` those of the batch that the same worker makes next."""

    ahead: Sequence[Any] = ()


class LookAhead:
    """Batches of keys with those that follow `distance` batches later, as a batch sampler.

    Args:
        keys: yields lists of keys, anew in every iteration.
        distance: number of workers, which take the batches in turn; at least 1.
    """

    def __init__(self, keys: Any, distance: int) -> None:
        self.keys, self.distance = keys, distance

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Keys]:
        batches = map(Keys, self.keys)
        waiting = deque(islice(batches, self.distance))
        while waiting:
            batch = waiting.popleft()
            for later in islice(batches, 1):
                batch.ahead = list(later)
                waiting.append(later)
            yield batch


class Turns(Generic[T]):
    """Makes something of each key of a batch, by threads that already begin with the next batch.

    What is made must depend on its key alone. The threads are those of the process that asks.

    Args:
        make: from a key to what is made.
        threads: how many at a time; 0: each is made where it is asked for.
    """

    def __init__(self, make: Callable[[Any], T], threads: int) -> None:
        self.make, self.threads = make, threads
        self._process, self._pool, self._begun = 0, None, dict[Any, Future[T]]()

    def __call__(self, keys: Sequence[Any]) -> list[T]:
        """What is made of each key, in order."""
        if not self.threads:
            return [self.make(key) for key in keys]
        pool, ahead = self._threads(), keys.ahead if isinstance(keys, Keys) else ()
        begun = {k: self._begun.pop(k, None) or pool.submit(self.make, k) for k in keys}
        for stale in self._begun.values():
            stale.cancel()
        self._begun = {key: pool.submit(self.make, key) for key in ahead}
        return [begun[key].result() for key in keys]

    def __reduce__(self) -> Any:
        return type(self), (self.make, self.threads)  # another process has threads of its own

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():
            self._process, self._begun = os.getpid(), {}
            self._pool = ThreadPoolExecutor(self.threads, "images")
        return self._pool
