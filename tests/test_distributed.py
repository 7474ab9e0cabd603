"""One run in several processes, against the same run in one."""

import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import hydra
import pytest
import torch
from command_line import ROOT, SHAPES, TINY, assert_same_end, metrics, run, start
from shares import EVALUATED, NETWORKS
from torch.distributed import TCPStore

from engine.builders import compatibility, parts
from engine.builders.run import prepare
from engine.config.schema import CONFIGS, Precision
from engine.data.sampler import Batches
from engine.distributed import collectives
from engine.errors import UserError

RUN = [*TINY, *SHAPES, "backbone=mobilenet_v1_025", "image_size=64",
       "head=attention", "head.kind=hard", "loss=bce", "metric=multi_label",
       "dataset.train=24", "dataset.val=5", "trainer.epochs=2", "trainer.ema=0.9"]  # fmt: skip


SHARDS = [*TINY, *SHAPES, "backbone=vit_tiny", "backbone.positions=32", "image_size=32",
          "head=linear", "loss=bce", "metric=multi_label", "dataset.train=24", "dataset.val=5",
          "trainer.epochs=2", "trainer.ema=0.9", "optimizer=adamw",
          "optimizer.lr=1e-4"]  # fmt: skip


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Return a function of the number of processes: the results of the run in that many."""
    folder = tmp_path_factory.mktemp("shares")

    @functools.cache
    def of(world):
        if world > 1:
            of(1)  # they evaluate its weights
        run("tests/shares.py", str(folder), str(world), cwd=folder)
        return torch.load(folder / f"{world}.pt", weights_only=True)

    return of


THREE = pytest.param(3, marks=pytest.mark.slow)


@pytest.mark.parametrize("world", [2, THREE])
@pytest.mark.parametrize("name", NETWORKS)
def test_shares_of_a_batch_train_as_the_whole_batch(name, world, ends):
    one, many = ends(1)[name], ends(world)[name]
    for part in ("weights", "ema"):
        for key, value in one[part].items():
            torch.testing.assert_close(many[part][key], value, rtol=0, atol=1e-5, msg=key)
    for row, other in zip(one["rows"], many["rows"], strict=True):
        assert other == pytest.approx(row, rel=1e-3)  # a hard negative more or less


@pytest.mark.parametrize("world", [2, THREE])
@pytest.mark.parametrize("name", EVALUATED)
def test_shares_of_101_images_have_the_numbers_of_one_process(name, world, ends):
    one, many = ends(1)[name], ends(world)[name]
    # Weights gathered from shards lie at other addresses, and some processors then sum in another
    # order: their sums of probabilities differ in the tenth digit, a count that differs never does.
    rounding = 1e-7 if name == "shards" else 0.0
    equal = pytest.approx(one["scores"], rel=rounding, abs=0.0, nan_ok=True)
    assert many["scores"] == equal
    assert many["found"] == one["found"] and len(one["found"]) == len(set(one["found"])) == 101
    assert 0 < next(iter(one["scores"].values())) < 1


@pytest.mark.parametrize("world", [1, 2, THREE])
@pytest.mark.parametrize("name", EVALUATED)
def test_a_loss_that_is_not_finite_in_one_process_moves_no_weight(name, world, ends):
    found = ends(world)[name]["poisoned"]
    assert found == {"skipped": 1, "still": [True] * world}  # the run is over: an epoch is one step


@pytest.mark.parametrize("world", [1, 2, THREE])
def test_a_bad_step_or_signal_of_one_process_is_known_to_all(world, ends):
    names = ", ".join(f"{rank}.jpg" for rank in range(world))
    message = f"step 1 skipped, its loss or gradient is not finite: {names}"
    assert ends(world)["bad_step"] == {"messages": [message], "bad_in_a_row": 1}
    received = [0, 15, 0, 0] if world == 1 else [0, 0, 15, 0]
    assert ends(world)["delayed_max"] == [received] * world
    assert ends(world)["order"] == list(range(7))


@pytest.mark.parametrize("length", [6, 17, 101])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_are_disjoint_and_whole(length, world):
    def batches(rank, world, train):
        return list(
            Batches(length=length, batch_size=6, seed=0, train=train, rank=rank, world=world)
        )

    training = zip(*(batches(rank, world, True) for rank in range(world)), strict=True)
    for whole, shares in zip(batches(0, 1, True), training, strict=True):
        assert len({len(share) for share in shares}) == 1
        assert sorted(key for share in shares for key in share) == sorted(whole)
    evaluated = [batches(rank, world, False) for rank in range(world)]
    assert sum(evaluated, []) != [] and all(
        batch == evaluated[i % world][i // world] for i, batch in enumerate(batches(0, 1, False))
    )


@pytest.mark.parametrize(("length", "batch_size"), [(100, 5), (5, 6)])
def test_a_batch_that_cannot_be_shared_is_refused(length, batch_size):
    with pytest.raises(UserError, match="5 images a batch .* among 2 processes"):
        Batches(length=length, batch_size=batch_size, seed=0, train=True, world=2)


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda:1", "one GPU a process"), ("mps", "cpu or cuda"), ("cuda", "1 GPUs")],
)
def test_a_process_without_a_gpu_of_its_own_is_refused(device, message, monkeypatch):
    assert collectives.local_device(torch.device(device)) == torch.device(device)  # not torchrun
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert collectives.local_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(UserError, match=message):
        collectives.local_device(torch.device(device))


def torchrun(folder, *arguments, processes=2):
    """Start `train.py` under torchrun, its run folder being `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         f"--nproc-per-node={processes}", str(ROOT / "train.py"), *arguments,
         f"hydra.run.dir={folder}"],
        cwd=folder.parent, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                                          "PYTHONFAULTHANDLER": "1"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def member(launcher, rank):
    """The process of that number."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return next(
        int(child)
        for child in children
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    )


def wait_for(file, process):
    while not file.exists() and process.poll() is None:
        time.sleep(0.02)


STORES: list[TCPStore] = []


def two(folder, *arguments):
    """`train.py` as two processes of torchrun's, without torchrun and its start."""
    return several(2, folder, *arguments)


def several(count, folder, *arguments):
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    STORES.append(store)  # it outlives both, as that of torchrun's agent does
    torchrun_env = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": str(count),
                     "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True",
                    "TORCHELASTIC_RESTART_COUNT": "0"}  # fmt: skip
    return [
        start("train.py", *arguments, f"hydra.run.dir={folder}", cwd=folder.parent,
              environment=torchrun_env | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]  # fmt: skip


def ends_of(processes):
    """Exit codes, outputs and errors of them."""
    outputs = [process.communicate(timeout=60) for process in processes]
    return [process.returncode for process in processes], *zip(*outputs, strict=True)


def test_two_processes_stopped_killed_and_resumed_end_with_the_same_bits(tmp_path):
    codes, outs, errs = ends_of(two(tmp_path / "whole", *RUN))
    assert codes == [0, 0], errs
    assert "2 processes" in outs[0] and outs[1] == ""
    assert {p.name for p in tmp_path.iterdir()} == {"whole"}

    last = tmp_path / "it/checkpoints/last.pt"
    stopped = two(tmp_path / "it", *RUN, "trainer.save_every=1")
    wait_for(last, stopped[0])
    stopped[1].send_signal(signal.SIGTERM)  # one alone: all stop at one step
    codes, _, errs = ends_of(stopped)
    assert codes == [143, 143], errs
    assert "stopped after step" in errs[0] and f"resume={last}" in errs[0] and errs[1] == ""

    before = last.stat().st_mtime_ns
    killed = two(tmp_path / "it", "resume=auto", "trainer.save_every=1")
    while last.stat().st_mtime_ns == before and killed[0].poll() is None:
        time.sleep(0.02)
    killed[1].send_signal(signal.SIGKILL)
    codes, _, errs = ends_of(killed)
    assert codes == [1, -signal.SIGKILL] and errs[0].count("another process of this run") == 1, errs

    codes, _, errs = ends_of(two(tmp_path / "it", "resume=auto"))
    assert codes == [0, 0], errs
    assert_same_end(tmp_path / "whole", tmp_path / "it")


@pytest.mark.slow
def test_three_processes_that_go_on_end_with_the_same_bits(tmp_path):
    """Sums of three depend on their order, hence on DDP's buckets."""
    line = [*RUN, "loader.batch_size=6", "finetune.unfreeze_every=1"]
    codes, _, errs = ends_of(several(3, tmp_path / "whole", *line))
    assert codes == [0, 0, 0], errs
    stopped = several(3, tmp_path / "it", *line, "trainer.save_every=1")
    wait_for(tmp_path / "it/checkpoints/last.pt", stopped[0])
    stopped[1].send_signal(signal.SIGTERM)
    codes, _, errs = ends_of(stopped)
    assert codes == [143, 143, 143], errs
    codes, _, errs = ends_of(several(3, tmp_path / "it", "resume=auto"))
    assert codes == [0, 0, 0], errs
    assert_same_end(tmp_path / "whole", tmp_path / "it")


def test_two_processes_agree_on_their_folder(tmp_path):
    command = [*RUN, "dataset.train=8", "trainer.epochs=1", "resume=auto"]
    codes, _, errs = ends_of(two(tmp_path / "it", *command))
    assert codes == [0, 0], errs
    codes, outs, errs = ends_of(two(tmp_path / "it", *command))
    assert codes == [0, 0] and "finished before" in outs[0] and outs[1] == "", errs
    for other, named in (
        (command[:-1], "has the checkpoints of a run"),
        ([*command, "seed=1"], "started with seed=0"),
    ):
        codes, _, errs = ends_of(two(tmp_path / "it", *other))
        assert codes == [2, 2] and sum(err.count(named) for err in errs) == 1, errs
    assert {p.name for p in tmp_path.iterdir()} == {"it"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_stopped_killed_and_resumed_two_processes_end_with_the_same_bits(tmp_path):
    whole = torchrun(tmp_path / "whole", *RUN)
    out, err = whole.communicate()
    assert whole.returncode == 0, err
    assert out.count("2 processes") == 1 and {p.name for p in tmp_path.iterdir()} == {"whole"}

    last = tmp_path / "it/checkpoints/last.pt"
    stopped = torchrun(tmp_path / "it", *RUN, "trainer.save_every=1")
    wait_for(last, stopped)
    os.kill(member(stopped, 1), signal.SIGTERM)  # one alone: all stop at one step
    _, err = stopped.communicate()
    assert err.count("stopped after step") == 1 and f"resume={last}" in err, err
    assert set(re.findall(r"exitcode *: (-?\d+)", err)) <= {"143", "-15"} and ": 143 " in err, err

    before = last.stat().st_mtime_ns
    killed = torchrun(tmp_path / "it", "resume=auto", "trainer.save_every=1")
    while last.stat().st_mtime_ns == before and killed.poll() is None:
        time.sleep(0.02)
    os.kill(member(killed, 1), signal.SIGKILL)
    _, err = killed.communicate(timeout=60)
    assert killed.returncode == 1 and "another process of this run has ended" in err, err

    resumed = torchrun(tmp_path / "it", "resume=auto")
    _, err = resumed.communicate()
    assert resumed.returncode == 0, err
    assert_same_end(tmp_path / "whole", tmp_path / "it")


def finished(process):
    """Return the output of a run, which must succeed."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out + err


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
def test_a_checkpoint_is_the_same_with_shards_and_without(before, after, tmp_path):
    output = finished(torchrun(tmp_path / "whole", *SHARDS, f"trainer.shard={after}"))
    assert "Warning" not in output
    last = tmp_path / "it/checkpoints/last.pt"
    stopped = torchrun(tmp_path / "it", *SHARDS, f"trainer.shard={before}", "trainer.save_every=1")
    wait_for(last, stopped)
    os.kill(member(stopped, 1), signal.SIGTERM)
    assert "stopped after step" in stopped.communicate()[1]
    finished(torchrun(tmp_path / "it", "resume=auto", f"trainer.shard={after}"))
    if before == after:
        assert_same_end(tmp_path / "whole", tmp_path / "it")
    one, other = (torch.load(tmp_path / f / "checkpoints/last.pt") for f in ("whole", "it"))
    for part in ("model", "ema", "optimizer"):
        torch.testing.assert_close(one[part], other[part], rtol=0, atol=1e-5)

    run("eval.py", f"checkpoint={last}", f"hydra.run.dir={tmp_path}/eval", cwd=tmp_path)
    row = other["history"][-1].items()
    numbers = {key.removeprefix("val/"): value for key, value in row if key.startswith("val/")}
    assert metrics(tmp_path / "eval")["metrics"] == numbers


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["trainer.compile=true", "trainer.l2=1e-4"], "trainer.compile, trainer.l2"),
        (["optimizer=momentum"], "optimizer.fused of SGD"),
        (["clip=value"], "a clip by value"),
    ],
)
def test_settings_that_do_not_work_with_shards_are_refused(arguments, named, monkeypatch):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=[*SHARDS, "trainer.shard=true", *arguments])
    net = parts.network(cfg, 3, parts.backbone(cfg))
    with pytest.raises(UserError, match="expected several processes"):
        prepare(cfg, net, 1, torch.device("cpu"))
    monkeypatch.setattr("engine.builders.compatibility.world", lambda: 2)
    with pytest.raises(UserError, match=f"does not work with {named}: change one"):
        compatibility.check_shardable(cfg, Precision.fp32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.shard=true", "optimizer=sgd"], "does not work with optimizer.fused of SGD"),
        (["loader.batch_size=5"], "5 images a batch"),
        (["trainer.sync_bn=true"], "expected several processes on GPUs"),
        (["trainer.epoch=5"], "no such key; here this is trainer.epochs=5"),
        (["-m", "seed=0,1"], "a sweep runs in one process"),
    ],
)
def test_an_error_of_all_processes_is_printed_once(arguments, message, tmp_path):
    refused = torchrun(tmp_path / "it", *RUN, *arguments)
    _, err = refused.communicate()
    assert refused.returncode == 1 and err.count("error: ") == err.count(message) == 1, err
    assert set(re.findall(r"exitcode *: (-?\d+)", err)) <= {"2", "-15"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_stops_three_processes_and_one_goes_on(number, tmp_path):
    stopped = torchrun(tmp_path / "it", *RUN, "loader.batch_size=6", "trainer.save_every=1",
                       processes=3)  # fmt: skip
    wait_for(tmp_path / "it/checkpoints/last.pt", stopped)
    stopped.send_signal(number)
    _, err = stopped.communicate()
    assert err.count("stopped after step") == 1, err
    out = run("train.py", "resume=auto", f"hydra.run.dir={tmp_path}/it", cwd=tmp_path)
    assert "trained on 3 processes until now, on 1 from here" in out
