import json

import numpy as np
import pytest
import torch
from command_line import ROOT, ended, equal

from engine.bench.keys import KEYS
from engine.bench.predict import measure as measure_predict
from engine.bench.step import peers
from engine.console import format_table
from engine.data.image import write_rgb

SMALL = ("batch=2", "slots=60", "objects=[0,3]", "repeats=1")

LOSSES = ("torchvision", "multibox", "retinanet", "focal", "focal_retina")


def bench(*arguments):
    return ended("-m", "engine.bench", *arguments, cwd=ROOT)


def test_loss_prints_a_table_and_json_last():
    done = bench("part=loss", *SMALL)
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    found = json.loads(last)
    assert (found["part"], found["batch"], found["slots"]) == ("loss", 2, 60)
    rows = found["rows"]
    assert [(r["objects"], r["loss"]) for r in rows] == [
        (count, loss) for count in (0, 3) for loss in LOSSES
    ]
    own_kind = [0, 0, 2, 2, 2, 5, 5, 7, 7, 7]  # multibox beside SSD, focal beside RetinaNet
    for row, peer in zip(rows, [rows[i] for i in own_kind], strict=True):
        assert 0 < row["fastest"] <= row["ms"] <= row["slowest"]
        assert row["of_torchvision"] == pytest.approx(row["ms"] / peer["ms"])
        assert (row is peer) <= (row["cpu_of_torchvision"] == 1)
        # At least the gradient by the logits, 2 * 60 * 20 floats
        assert row["peak_mb"] > 2 * 60 * 20 * 4 / 1e6
    assert not (ROOT / "bench.log").exists()
    assert table[0].split() == list(rows[0])
    assert len(table) == 1 + len(rows)


@pytest.mark.slow
def test_data_puts_augmentation_beside_decoding_and_torchvision(shared_data):
    done = bench("part=data", f"root=[{shared_data}/bccd]", "images=4", "repeats=1", "side=64")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [row["way"] for row in rows if row["images"] == "bccd"][:3] == [
        "decoding", "augment=ssd", "torchvision",
    ]  # fmt: skip
    assert all(row["slowest"] <= row["a_second"] <= row["fastest"] for row in rows)
    assert [row["of_decoding"] for row in rows if row["way"] == "decoding"] == [1, 1]


def test_predict_puts_what_is_saved_beside_decoding(tmp_path):
    for i in range(2):
        write_rgb(str(tmp_path / f"{i}.jpg"), np.full((60, 90, 3), 90 * i, np.uint8))
    rows = measure_predict(root=[str(tmp_path)], images=2, side=32, objects=[0, 4], batch=None,
                           repeats=1, seed=0)  # fmt: skip
    ways = ["decoding", "input", "save=[json]", "save=[images,json]", "save=[csv]", "save=[yolo]",
            "save=[crops]"]  # fmt: skip
    assert [(row["objects"], row["way"]) for row in rows] == [(n, w) for n in (0, 4) for w in ways]
    for row, decoding in zip(rows, rows[:1] * 7 + rows[7:8] * 7, strict=True):
        assert row["of_decoding"] == pytest.approx(row["ms"] / decoding["ms"])
    assert all(row["beyond_input"] == 0 for row in rows[1::7])


def test_step_prints_each_model_beside_its_bare_network():
    done = bench("part=step", "models=[mobilenet_v1_025]", "batch=2", "steps=1", "repeats=1")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [(r["model"], r["batch"], r["timed"]) for r in rows] == [
        ("mobilenet_v1_025", 2, timed) for timed in ("bare", "step", "loop", "losses")
    ]
    for row in rows:
        assert row["of_bare"] == pytest.approx(row["ms"] / rows[0]["ms"])


def test_keys_are_timed_one_at_a_time():
    done = bench("part=keys", "models=[mobilenet_v1_025]", "batch=2", "steps=1", "repeats=1",
                 "device=cpu")  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [row["key"] for row in rows] == ["default", *KEYS]
    for row in rows:
        assert row["of_default"] == row["a_second"] / rows[0]["a_second"] > 0
        assert row["slowest"] <= row["a_second"] <= row["fastest"] and row["busy"] > 0


def test_the_step_that_is_timed_is_the_loops_own():
    timed = peers("mobilenet_v1_025", batch=2, steps=2)
    step, loop = (timed[name].args[0] for name in ("step", "loop"))
    loop.network.load_state_dict(step.network.state_dict())
    loop.ema.module.load_state_dict(step.network.state_dict())
    step.ema.module.load_state_dict(step.network.state_dict())
    timed["step"]()
    timed["loop"]()
    assert equal(loop.network.state_dict(), step.network.state_dict())
    assert equal(loop.ema.state_dict(), step.ema.state_dict())
    assert step.clock.step == loop.clock.step == 2 and step.epoch == 1


@pytest.mark.slow
def test_torchvisions_ssd300_is_timed_beside_ours():
    timed = peers("ssd300_vgg16", batch=1, steps=1)
    model = timed["torchvision"].args[0]
    weights = [p for p in model.parameters() if p.dim() > 1]  # biases without a match stay
    before = [p.clone() for p in weights]
    timed["torchvision"]()
    assert all(not torch.equal(a, b) for a, b in zip(before, weights, strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            "part=los",
            "keys or loss or predict or scaling or score or shards or step; did you mean 'loss'?",
        ),
        ("batch=0", "batch=0: expected a whole number from 1"),
        ("models=[resnet18]", "models: part=loss has no such key; it has batch, slots"),
        (["part=step", "models=[resnet19]"], "model=resnet19: no such model; did you mean"),
        ("objects=[]", "objects=[]: expected"),
        ("objects=[-1]", "objects=[-1]: expected"),
        ("slot=3", "slots"),
        ("root=[a]", "root: part=loss has no such key; it has batch, slots, objects"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(wrong, message):
    done = bench(*([wrong] if isinstance(wrong, str) else wrong))
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_table_lines_up():
    rows = [{"objects": 1, "ms": 0.1234, "of": 1.0}, {"objects": 500, "ms": 1234.5, "of": 0.25}]
    assert format_table(rows) == [
        "objects     ms    of",
        "      1  0.123     1",
        "    500   1234  0.25",
    ]


@pytest.mark.slow
def test_scaling_puts_two_processes_beside_one():
    done = bench("part=scaling", "batch=2", "steps=1", "repeats=1")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    expected = [(side, way) for side in (96, 224) for way in ("one", "two", "two, bf16")]
    assert [(row["side"], row["processes"]) for row in rows] == expected
    assert all(row["cpu"] == row["clock"] == 1 for row in rows if row["processes"] == "one")
