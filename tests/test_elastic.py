"""A run of one or two machines of torchrun's, which die and join, against the same run in one."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from command_line import ROOT, SHAPES, TINY, run
from torch.distributed import HashStore

from engine.data.sampler import Batches
from engine.distributed import collectives
from engine.distributed.rounds import own_part
from engine.errors import UserError

# No batch statistics, whose shares would be of other images; a step is far more than 1e-5.
RUN = [*TINY, *SHAPES, "backbone=vit_tiny", "backbone.positions=32", "image_size=32", "head=linear",
       "loss=bce", "metric=multi_label", "dataset.train=80", "dataset.val=5", "trainer.epochs=5",
       "trainer.ema=0.9", "optimizer=momentum", "optimizer.lr=0.001"]  # fmt: skip

# Without the second, torch 2.14 never tells a machine that joins later where the others meet.
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
               "OMP_NUM_THREADS": "1"}  # fmt: skip


def machine(folder, port):
    """torchrun of one machine, in a group of its own: it waits for another, but not for long."""
    conf = "join_timeout=60,last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=3"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2", "--nproc-per-node=1",
               "--max-restarts=5", "--monitor-interval=0.2", "--rdzv-backend=c10d", "--rdzv-id=it",
               f"--rdzv-endpoint=127.0.0.1:{port}", f"--rdzv-conf={conf}", str(ROOT / "train.py"),
               *RUN, "trainer.save_every=1", f"hydra.run.dir={folder}", "resume=auto"]  # fmt: skip
    with open(folder.parent / f"log{time.time_ns()}", "w") as log:
        return subprocess.Popen(command, cwd=folder.parent, env=os.environ | ENVIRONMENT,
                                stdout=log, stderr=log, start_new_session=True)  # fmt: skip


def trained(last, processes, beyond):
    """Wait until so many processes have saved more steps than `beyond`; return how many."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if last.exists():
            saved = torch.load(last, weights_only=True)
            if saved["processes"] == processes and saved["step"] > beyond:
                return saved["step"]
        time.sleep(0.1)
    pytest.fail(f"no step {beyond + 1} on {processes} processes")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="kills groups of processes")
def test_a_machine_dies_and_joins_again_and_the_run_ends_as_one_process(tmp_path):
    run("train.py", *RUN, f"hydra.run.dir={tmp_path}/whole", cwd=tmp_path)
    folder = tmp_path / "it"
    last = folder / "checkpoints/last.pt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machines = [machine(folder, port)]
    try:
        time.sleep(2)  # the first has the store
        machines.append(machine(folder, port))
        step = trained(last, 2, 10)
        for worker in _children(machines[1].pid):
            os.kill(worker, signal.SIGKILL)
        os.killpg(machines[1].pid, signal.SIGKILL)  # the machine is gone
        step = trained(last, 1, step + 10)
        machines.append(machine(folder, port))
        trained(last, 2, step + 10)
        assert machines[0].wait(timeout=120) == machines[2].wait(timeout=120) == 0
    finally:
        for process in machines:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
    log = (folder / "train.log").read_text()
    for before, now in ((2, 1), (1, 2)):
        note = f"trained on {before} processes until now, on {now} from here: the same batches"
        assert note in log, log
    one, other = (
        torch.load(f / "checkpoints/last.pt", weights_only=True)
        for f in (tmp_path / "whole", folder)
    )
    assert one["step"] == other["step"] == 100
    for part in ("model", "ema"):
        torch.testing.assert_close(one[part], other[part], rtol=0, atol=1e-5)


def _children(pid):
    return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@pytest.mark.parametrize("worlds", [(2, 1, 2), (1, 4, 3, 1), (3, 2)])
def test_whatever_number_of_processes_goes_on_an_epoch_has_its_batches_once(worlds):
    def share(rank, world, start):
        batches = Batches(length=120, batch_size=12, seed=0, train=True, rank=rank, world=world)
        batches.seek(1, start)
        return iter(batches)

    whole = [sorted(batch) for batch in share(0, 1, 0)]
    found = []
    for number, world in enumerate(worlds):
        shares = zip(*(share(rank, world, len(found)) for rank in range(world)), strict=True)
        for batch in shares:
            found.append(sorted(key for part in batch for key in part))
            if len(found) % 3 == 0 and number + 1 < len(worlds):
                break
    assert found == whole
    assert len({index for batch in found for _, index in batch}) == 120


def test_processes_that_see_different_checkpoints_are_refused(monkeypatch):
    collectives.check_equal(5, "the step")
    monkeypatch.setattr(collectives, "all_gather", lambda items: [*items, None])
    with pytest.raises(
        UserError, match="the step: the processes read 5, None; expected one folder"
    ):
        collectives.check_equal(5, "the step")


def test_a_start_of_the_group_sees_nothing_of_those_before():
    store = HashStore()
    for count in (2, 1, 3, 3):  # more, fewer and as many as before
        parts = [None] * count

        def join(rank, parts=parts, count=count):
            parts[rank] = own_part(store, rank, count)

        threads = [threading.Thread(target=join, args=(rank,)) for rank in reversed(range(count))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        assert [part.add("key", 1) for part in parts] == list(range(1, count + 1))
