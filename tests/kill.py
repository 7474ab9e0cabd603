"""Kill training at random moments, resume until it is done, compare with an uninterrupted run.

    OMP_NUM_THREADS=1 python tests/kill.py --runs 100 dataset=voc dataset.root=../shared/data/bccd

Runs alternate between 0 and 2 workers, with and without accumulation. Each is killed until it has
been hit `--hits` times: with SIGKILL at a random moment, with SIGKILL inside a save, with SIGTERM
at a random moment. Then it may end, and its weights, averages, optimizer, random states and
metrics.csv must equal those of an uninterrupted run. Processes are forked from one that has torch
loaded, or their start would take most of the time.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2
import torch
from command_line import ROOT, assert_same_end

from engine.whole_file import PREFIX

BASE = ["backbone=mobilenet_v1_025", "head.levels=2", "image_size=64", "loader.batch_size=16",
        "trainer.epochs=2", "trainer.save_every=2", "trainer.ema=0.9", "device=cpu"]  # fmt: skip
SETTINGS = [[f"loader.workers={w}", f"trainer.accumulate={a}"] for w in (0, 2) for a in (1, 2)]
WAYS = ("SIGKILL", "SIGKILL inside a save", "SIGTERM")


def launch(arguments: list[str], folder: Path) -> int:
    """Start `train.py` in a forked process group, with its output in the folder; return its pid."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "checkpoints/last.pt").exists():
        arguments = ["resume=auto"]
    pid = os.fork()
    if pid:
        return pid
    code: object = 1
    try:
        os.setsid()
        output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["train.py", *arguments, f"hydra.run.dir={folder}"]
        from engine.commands import train

        train()
        code = 0
    except SystemExit as error:
        code = error.code
    finally:
        os._exit(code if isinstance(code, int) else 1)


def ended(pid: int) -> bool:
    """Return whether the process has ended; exit with an error if it failed by itself."""
    found, status = os.waitpid(pid, os.WNOHANG)
    if found and os.waitstatus_to_exitcode(status):
        raise SystemExit(f"training failed by itself, with {os.waitstatus_to_exitcode(status)}")
    return bool(found)


def hit(pid: int, way: str, wait: float, folder: Path) -> bool:
    """Kill the process in that way after `wait` seconds; return False if it had ended before."""
    start, saving = time.monotonic(), folder / "checkpoints"
    while time.monotonic() - start < wait or (way == WAYS[1] and not [*saving.glob(f"{PREFIX}*")]):
        if ended(pid):
            return False
        time.sleep(0.0005)
    os.kill(pid, signal.SIGTERM if way == "SIGTERM" else signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert way != "SIGTERM" or code in (143, 0, -signal.SIGTERM), code  # -15: before it trained
    return True


def survive(number: int, hits: int, seconds: float, arguments: list[str], folder: Path) -> Counter:
    """Kill and resume one run until it is done; return how often it was killed in each way."""
    rng, counts = random.Random(number), Counter()
    while True:
        pid = launch(arguments, folder)
        way = rng.choice(WAYS)
        if counts.total() >= hits:
            while not ended(pid):
                time.sleep(0.01)
            return counts
        if not hit(pid, way, rng.uniform(0, seconds), folder):
            return counts
        counts[way] += 1


def main() -> None:
    """Print each run when it ends, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--hits", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="of every run, like dataset=voc")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    import engine.train  # noqa: F401, what the processes share

    folder, seconds, total = Path(tempfile.mkdtemp()), [], Counter()
    for i, setting in enumerate(SETTINGS[: args.runs]):
        start = time.monotonic()
        survive(0, 0, 0, [*BASE, *setting, *args.overrides], folder / f"whole{i}")
        seconds.append(time.monotonic() - start)
    for number in range(args.runs):
        i = number % len(SETTINGS)
        arguments = [*BASE, *SETTINGS[i], *args.overrides]
        counts = survive(number, args.hits, seconds[i], arguments, folder / str(number))
        assert_same_end(folder / f"whole{i}", folder / str(number))
        total += counts
        print(f"run {number}: {' '.join(SETTINGS[i])}: {dict(counts)}: the same bits", flush=True)
    print(f"{args.runs} of {args.runs} runs end with the same bits, hit by {dict(total)}")


if __name__ == "__main__":
    main()
