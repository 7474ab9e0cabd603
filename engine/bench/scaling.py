"""Two processes beside one, a thread each: `python -m engine.bench part=scaling`.

Weak scaling: each process trains on as many images a step as the one alone. The network is
`ssd_resnet34` on ResNet-18 in float32, at 224 px and at 96, where its 80 MB of gradients weigh more
than in most runs.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from engine.bench.step import CPU, Ready, compose, steps_of_ours
from engine.builders import parts
from engine.builders.instantiate import part
from engine.builders.run import prepare

NETWORK = ("backbone=resnet18", "trainer.precision=fp32")
SIDES = (96, 224)  # pixels
WAYS = {"one": (1, ()), "two": (2, ()), "two, bf16": (2, ("trainer.compress_gradients=bf16",))}
WARM = 2  # steps that are not timed: the buckets are made, memory is taken
Seconds = tuple[float, float]  # of a step: processor time of all processes, and by the clock


def measure(*, batch: int | None, steps: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """One row for each side and way, with the median of its turns.

    Args:
        batch: images of each process a step; None for 16.
        steps: that a turn times; then it is the next way's.
        repeats: turns of each.
        seed: of the weights.

    Keys: `cpu_ms` and `ms` are an image's processor time and a step's time by the clock; `cpu` and
    `clock` the efficiency, 1 where two processes lose nothing.
    """
    return [row for side in SIDES for row in _rows(side, batch or 16, steps, repeats, seed)]


def _rows(side: int, images: int, steps: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    turns = [
        {
            way: _turn(world, (f"image_size={side}", *keys), images, steps, seed)
            for way, (world, keys) in WAYS.items()
        }
        for _ in range(repeats)
    ]
    return [
        {
            "side": side,
            "batch": images,
            "processes": way,
            "cpu_ms": 1e3 * median(turn[way][0] for turn in turns) / (images * world),
            "ms": 1e3 * median(turn[way][1] for turn in turns),
            "cpu": median(world * turn["one"][0] / turn[way][0] for turn in turns),
            "clock": median(turn["one"][1] / turn[way][1] for turn in turns),
        }
        for way, (world, _) in WAYS.items()
    ]


def _turn(world: int, overrides: tuple[str, ...], batch: int, steps: int, seed: int) -> Seconds:
    with tempfile.TemporaryDirectory() as folder:
        given = (world, overrides, batch, steps, seed, folder)
        torch.multiprocessing.spawn(_process, given, nprocs=world)
        found = [json.loads((Path(folder) / f"{rank}").read_text()) for rank in range(world)]
    cpu, clock = zip(*found, strict=True)
    return sum(cpu) / steps, max(clock) / steps


def _process(
    rank: int, world: int, overrides: tuple[str, ...], batch: int, steps: int, seed: int, to: str
) -> None:
    """Train in one of the processes; write its seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    if world > 1:
        store = dist.FileStore(os.path.join(to, "store"), world)
        dist.init_process_group("gloo", rank=rank, world_size=world, store=store)
    cfg = compose("ssd_resnet34", batch * world, WARM + steps, *NETWORK, *overrides)
    data = part(cfg.dataset, "dataset", split="train")
    ready = Ready(parts.loader(cfg, data, CPU, shuffle=True))
    network = parts.network(cfg, len(data.classes), parts.backbone(cfg))
    run = prepare(cfg, network, WARM + steps, CPU)
    batches = ready.batches
    ready.batches = batches[:WARM]
    steps_of_ours(run, ready)
    ready.batches = batches[WARM:]
    if world > 1:
        dist.barrier()
    clock, cpu = time.perf_counter(), time.process_time()
    steps_of_ours(run, ready)
    seconds = time.process_time() - cpu, time.perf_counter() - clock
    Path(to, f"{rank}").write_text(json.dumps(seconds))
    if world > 1:
        dist.destroy_process_group()
