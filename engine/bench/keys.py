"""What each key of speed is worth: `python -m engine.bench part=keys device=cuda batch=32`.

Each model of its preset trains on drawn images that are ready, by
`engine.training.loop.train_epoch`: as the defaults have it, then with one key changed at a time,
then torchvision's own model in its reference loop at the same precision. For a GPU; on a CPU it
runs at toy size.
"""

import importlib.util
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

from engine.bench.step import (
    THEIRS,
    Ready,
    compose,
    steps_of_ours,
    steps_of_torchvision,
    torchvisions,
)
from engine.builders import parts
from engine.builders.instantiate import part
from engine.builders.run import prepare
from engine.console import info
from engine.training.precision import autocast, resolve

KEYS = (
    "trainer.precision=fp32",
    "trainer.precision=bf16",
    "trainer.channels_last=false",
    "trainer.ema=null",
    "optimizer.fused=false",
)
ON_A_GPU = (
    "trainer.precision=tf32",
    "trainer.precision=fp16",
    "trainer.benchmark=true",
    "trainer.compile=true",
)
BATCH = 8


def measure(
    *, models: list[str], batch: int | None, steps: int, repeats: int, seed: int, device: str
) -> list[dict[str, Any]]:
    """One row for each model and key.

    `a_second` is images of the median turn of so many steps, copies to the device included, after
    one turn that does not count; `of_default` its share of the default's. `peak_mb` is what tensors
    took on a GPU, `busy` its utilisation by its driver (pip install nvidia-ml-py), in percent; on a
    CPU `busy` is the share of its cores.
    """
    where, batch = parts.device(device), batch or BATCH
    rows = []
    for model in models:
        for key, make in _ways(model, batch, steps, seed, where).items():
            row = {"model": model, "key": key, "batch": batch}
            rows.append(row | _timed(make, batch * steps, repeats, where))
            first = next(row for row in rows if row["model"] == model)
            rows[-1]["of_default"] = rows[-1]["a_second"] / first["a_second"]
    return rows


def _ways(
    model: str, batch: int, steps: int, seed: int, device: torch.device
) -> dict[str, Callable[[], Callable[[], None]]]:
    """What makes a turn of each way to train, by name."""
    keys = (*KEYS, *(ON_A_GPU if device.type == "cuda" else ()))
    ways = {"default": []} | {key: [key] for key in keys}
    made = {
        name: partial(_ours, model, batch, steps, seed, device, overrides)
        for name, overrides in ways.items()
    }
    if model in THEIRS:
        made["torchvision"] = partial(_theirs, model, batch, steps, seed, device)
    return made


def _ready(cfg: Any, device: torch.device) -> tuple[Ready, int]:
    data = part(cfg.dataset, "dataset", split="train")
    return Ready(parts.loader(cfg, data, device, shuffle=True)), len(data.classes)


def _ours(
    model: str, batch: int, steps: int, seed: int, device: torch.device, overrides: list[str]
) -> Callable[[], None]:
    torch.manual_seed(seed)
    cfg = compose(model, batch, steps, *overrides)
    ready, count = _ready(cfg, device)
    network = parts.network(cfg, count, parts.backbone(cfg))
    return partial(steps_of_ours, prepare(cfg, network, steps, device), ready)


def _theirs(
    model: str, batch: int, steps: int, seed: int, device: torch.device
) -> Callable[[], None]:
    torch.manual_seed(seed)
    cfg = compose(model, batch, steps)
    ready, count = _ready(cfg, device)
    theirs = torchvisions(model, cfg, count, device)
    precision = autocast(resolve(cfg.trainer.precision, device), device)
    return partial(steps_of_torchvision, *theirs, ready, device, precision)


def _timed(
    make: Callable[[], Callable[[], None]], images: int, repeats: int, device: torch.device
) -> dict[str, Any]:
    turn, seconds = make(), []
    turn()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    busy = time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        turn()
        if on_gpu:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    shares = (time.process_time() - busy) / sum(seconds) / torch.get_num_threads()
    return {
        "a_second": images / median(seconds),
        "slowest": images / max(seconds),
        "fastest": images / min(seconds),
        "peak_mb": torch.cuda.max_memory_allocated(device) / 1e6 if on_gpu else None,
        "busy": _utilisation(device) if on_gpu else 100 * shares,
    }


def _utilisation(device: torch.device) -> int | None:
    """Percent of the last moments in which the GPU computed, as its driver says."""
    if importlib.util.find_spec("pynvml"):
        return torch.cuda.utilization(device)
    info("nvidia-ml-py is not installed: utilisation left out")
    return None
