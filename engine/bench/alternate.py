"""Peers timed in turn, so that a busy machine slows all of them alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any

Seconds = dict[str, list[float]]  # of each peer's turns


def alternate(peers: Mapping[str, Callable[[], Any]], repeats: int) -> tuple[Seconds, Seconds]:
    """Seconds of wall time and of this process's CPU time for `repeats` turns of each peer.

    One more turn of each comes first and does not count.
    """
    wall: Seconds = {name: [] for name in peers}
    cpu: Seconds = {name: [] for name in peers}
    for turn in range(repeats + 1):
        for name, run in peers.items():
            start, busy = time.perf_counter(), time.process_time()
            run()
            if turn:
                cpu[name].append(time.process_time() - busy)
                wall[name].append(time.perf_counter() - start)
    return wall, cpu
