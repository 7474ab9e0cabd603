"""Training batches from shards beside files: `python -m engine.bench part=shards root=[FOLDER]`.

One worker decodes and augments, as training has it; the shards lie on the disk, or on a server of
this machine that answers each request `latency` milliseconds late. Loader and worker share one
core, the server has the others: threads that wait must not count as faster ones that compute.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from detect.bench.range_server import served_apart
from detect.datasets.shards import Shards
from detect.datasets.voc import VOC
from engine.builders.instantiate import part
from engine.config.schema import CONFIGS
from engine.data.loader import Loader
from engine.shard.write import write_all

SIZE = 50_000_000  # bytes of a tar
WAYS = ("files", "shards", "shards by http")


def measure(
    *, root: list[str], images: int, side: int, batch: int | None, latency: float, repeats: int,
    seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row a folder in VOC's layout: images a second of each way, and shares of that of files.

    Shares are medians over `repeats` turns, each beside the files' own turn, by the clock (wall)
    and by the processor's time of loader and worker (busy), which other programs change less.
    """
    return [
        _row(folder, images, side, batch or 16, latency / 1000, repeats, seed) for folder in root
    ]


def _row(
    root: str, images: int, side: int, batch: int, latency: float, repeats: int, seed: int
) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = VOC(root=root, split="train", on_error="skip")
        write_all(folder, {"train": files}, SIZE)
        url = stack.enter_context(served_apart(folder, latency))
        stack.enter_context(_one_core())
        sets = [files, Shards(root=str(folder), split="train"), Shards(root=url, split="train")]
        loaders = [_loader(data, images, side, batch, seed) for data in sets]
        turns = [[_epoch(each, turn) for each in loaders] for turn in range(repeats + 1)]
    wall, busy = np.moveaxis(np.array(turns[1:]), 2, 0)  # workers start in the first turn
    count = len(loaders[0]) * batch
    rates = dict(zip(WAYS, (count / np.median(wall, 0)).round(1).tolist(), strict=True))
    row = {"folder": Path(root).name, "images": count, **rates}
    for name, seconds in (("wall", wall), ("busy", busy)):
        shares = np.median(seconds[:, :1] / seconds, 0).round(3).tolist()
        row |= {f"{way}, {name}": x for way, x in zip(WAYS[1:], shares[1:], strict=True)}
    return row


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process and the workers that it starts on one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _loader(data: Any, images: int, side: int, batch: int, seed: int) -> Loader:
    node: Any = OmegaConf.load(CONFIGS / "augment" / "ssd.yaml")
    return Loader(
        dataset=data, augment=part(node, "augment"), size=(side, side), batch_size=batch,
        workers=1, seed=seed, train=True, images=images,
    )  # fmt: skip


def _epoch(loader: Loader, epoch: int) -> tuple[float, float]:
    """Seconds of an epoch's batches, which nobody uses, and of the processor in them."""
    loader.sampler.seek(epoch)
    batches, start, busy = iter(loader), time.perf_counter(), _busy(loader)
    for _ in batches:
        pass
    return time.perf_counter() - start, _busy(loader) - busy


def _busy(loader: Loader) -> float:
    """Seconds of the processor so far, of this process and of the loader's worker; on Linux."""
    workers = getattr(getattr(loader.loader, "_iterator", None), "_workers", ())
    fields = [Path(f"/proc/{w.pid}/stat").read_text().rpartition(")")[2].split() for w in workers]
    ticks = sum(int(row[11]) + int(row[12]) for row in fields)  # in user's and in system's mode
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")
