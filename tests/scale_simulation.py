"""Sampler, shards and resume of a thousand processes and a thousand million images, without them.

python tests/scale_simulation.py [IMAGES] [PROCESSES] prints what docs/scale.md cites: the run's own
sampler and index are used, at full size where that fits, else on a part whose size is named.
"""

import resource
import sys
import time

import numpy as np

from engine.data import shard_index
from engine.data.index import file_names
from engine.data.permutation import Permutation
from engine.data.sampler import Batches
from engine.data.shard_index import ShardIndex, TarIndex

EACH, TAR, TARS, BOXES = 32, 10_000, 50, 5  # images a process and step, a tar; tars, boxes an image


def sampler(images: int, processes: int, rank: int, epoch: int = 3, batch: int = 0) -> Batches:
    found = Batches(length=images, batch_size=EACH * processes, seed=0, train=True, rank=rank,
                    world=processes)  # fmt: skip
    found.seek(epoch, batch)
    return found


def step(images: int, processes: int, each: int, batch: int) -> np.ndarray:
    """The images of a step, of all processes, when so many share it."""
    ranks = range(each)
    parts = []
    for rank in ranks:
        one = Batches(length=images, batch_size=EACH * processes, seed=0, train=True, rank=rank,
                      world=each)  # fmt: skip
        one.seek(3, batch)
        parts.append([index for _, index in next(iter(one))])
    return np.concatenate(parts)


def start_up(images: int, processes: int) -> dict[str, float]:
    """Seconds and megabytes until a process has the keys of its first batch, in mid-epoch."""
    before, start = _peak(), time.perf_counter()
    batches = sampler(images, processes, rank=7, batch=images // EACH // processes // 2)
    first = next(iter(batches))
    assert len(first) == EACH
    return {"seconds": time.perf_counter() - start, "megabytes": _peak() - before}


def coverage(images: int) -> dict[str, float]:
    """How many images an epoch has, and has twice, by a flag for each."""
    order, seen = Permutation(images, (0, 3, 2)), np.zeros(images, bool)
    start, twice = time.process_time(), 0
    for begin in range(0, images, 2**18):
        found = order[np.arange(begin, min(begin + 2**18, images))]
        twice += int(seen[found].sum())
        seen[found] = True
    seconds = time.process_time() - start
    return {"images": int(seen.sum()), "twice": twice, "seconds": seconds}


def index_cost() -> dict[str, float]:
    """Of an index with boxes: bytes in a file and in memory, microseconds to read, an image."""
    data = [shard_index.dump(_tar(number)) for number in range(2)]
    start = time.process_time()
    tars = [shard_index.load(data[number % 2]) for number in range(TARS)]
    merged = shard_index.merge([tar.images for tar in tars if tar], stated=True)
    seconds = time.process_time() - start
    arrays = [value for value in vars(merged).values() if isinstance(value, np.ndarray)]
    return {
        "file": len(data[0]) / TAR,
        "memory": sum(array.nbytes for array in arrays) / len(merged),
        "microseconds": 1e6 * seconds / len(merged),
    }


def _tar(number: int) -> TarIndex:
    rng = np.random.default_rng(number)
    images = ShardIndex(
        file_names([f"{number:06d}{i:06d}.jpg" for i in range(TAR)]),
        np.arange(TAR + 1) * BOXES,
        rng.integers(0, 80, TAR * BOXES),
        boxes=np.float32([0, 0, 200, 200]) + rng.random((TAR * BOXES, 4), np.float32),
        ids=np.arange(TAR),
        shard=np.zeros(TAR, np.int32),
        offset=np.arange(TAR) * 100_000,
        length=np.full(TAR, 100_000),
    )
    return TarIndex(images, [str(i) for i in range(80)], True, [], TAR * 100_000)


def spread(images: int, processes: int) -> dict[str, float]:
    """Tars that a step of all processes reads from, and the most images of one tar."""
    found = Permutation(images, (0, 3, 2))[np.arange(EACH * processes)] // TAR
    counts = np.bincount(found)
    return {"tars": int((counts > 0).sum()), "most": int(counts.max())}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main(images: int = 10**9, processes: int = 1000) -> None:
    print("start-up of a process", start_up(images, processes))
    whole = step(images, processes, 1, 77)
    assert len(set(whole.tolist())) == EACH * processes
    for each in (processes, processes // 2, processes // 4):
        same = np.array_equal(np.sort(step(images, processes, each, 77)), np.sort(whole))
        print(f"step 77 shared by {each} processes: the same images {same}")
    later = sampler(images, processes, 5, batch=78)
    both = iter(sampler(images, processes, 5, batch=77))
    next(both)
    print("resume at step 78 goes on as without it", next(iter(later)) == next(both))
    print("a step's tars", spread(images, processes))
    print("index, an image", index_cost())
    print("an epoch", coverage(images))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
