"""A damaged or made-up checkpoint ends in one line, whatever of it is wrong."""

import copy
import math

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from engine.builders import from_checkpoint, parts
from engine.builders.run import prepare
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.output.run_log import Silent
from engine.training.checkpointer import Checkpointer
from engine.training.loop import train_epoch
from engine.weights import checkpoint
from engine.weights.entries import ENTRIES, RESUMED, check_resumed
from engine.weights.migrate import FORMAT

CPU = torch.device("cpu")
SMALL = ["model=resnet_cifar", "backbone.depth=8", "backbone.base_channels=4", "image_size=32",
         "dataset=shapes", "dataset.view=largest", "dataset.size=32", "dataset.train=4",
         "dataset.val=2", "loader.batch_size=2", "loader.workers=0", "trainer.epochs=3",
         "optimizer=adam", "trainer.precision=fp32", "device=cpu"]  # fmt: skip
MISSING = object()


def compose(name, *overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(name, overrides=list(overrides))


def start(cfg):
    torch.manual_seed(0)
    loader = parts.loader(cfg, parts.dataset(cfg, "train"), CPU, shuffle=True)
    net = parts.network(cfg, len(loader.dataset.classes), parts.backbone(cfg))
    return prepare(cfg, net, len(loader), CPU), loader


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of an epoch and a step: what its checkpoint holds, itself and its reader."""
    folder = tmp_path_factory.mktemp("run")
    cfg = compose("train", *SMALL)
    run, loader = start(cfg)
    for _ in train_epoch(run, loader, Silent()):
        pass
    run.end_epoch({"epoch": 1, "val/top1": 0.5}, 0.5)
    next(train_epoch(run, loader, Silent()))
    Checkpointer(run, cfg, loader.dataset, folder)()
    path = folder / "last.pt"
    state = torch.load(path, weights_only=True)
    return state, run, compose("resume", f"resume='{path}'"), folder / "changed.pt"


def read(whole, state):
    """What predict.py makes of a state."""
    _, _, cfg, path = whole
    checkpoint.upgrade(state, f"checkpoint {path}")  # as `load` does it: most end here, in no time
    torch.save(state, path)
    saved, full = from_checkpoint.load(str(path), OmegaConf.merge(cfg, {"resume": None}), CPU)
    return from_checkpoint.network(full, saved, str(path), CPU), saved


def resume(whole, state):
    """What train.py makes of it, but for the configuration."""
    _, run, _, path = whole
    saved = checkpoint.upgrade(state, f"checkpoint {path}")
    check_resumed(saved, f"checkpoint {path}")
    run.restore(saved, str(path))


def refusal(action, whole, state):
    with pytest.raises(UserError) as caught:
        action(whole, state)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message.replace(str(whole[3]), "")) < 500
    return message


def put(state, keys, value):
    """The state with one value in it changed; what is not changed is shared."""
    if not keys:
        return value
    new, key = copy.copy(state), keys[0]
    if value is MISSING and len(keys) == 1:
        del new[key]
    else:
        new[key] = put(state[key], keys[1:], value)
    return new


def test_the_whole_one_is_read_and_goes_on(whole):
    network, saved = read(whole, whole[0])
    assert saved["epoch"] == 1 and network.head is not None
    resume(whole, whole[0])
    _, _, cfg, path = whole
    assert from_checkpoint.load(str(path), cfg, CPU)[0]["step"] == 3
    torch.save({**whole[0], "stale": "x"}, path)
    with pytest.raises(UserError, match="stale is str 'x', expected a count from 0 on"):
        from_checkpoint.load(str(path), cfg, CPU)
    assert {*ENTRIES, *RESUMED} <= whole[0].keys()


DEEP = []
for _ in range(300):
    DEEP = [DEEP]
WIDE = [0] * 10
for _ in range(8):  # 10^9 zeros, by reference
    WIDE = [WIDE] * 10
WRONG = {
    "missing": MISSING,
    "None": None,
    "a number": 5,
    "below zero": -1,
    "a bool": True,
    "a text": "x",
    "a huge text": "x" * 1_000_000,
    "an empty list": [],
    "a list": [1, "x", None],
    "a deep list": DEEP,
    "a wide list": WIDE,
    "an empty dict": {},
    "keys that are no text": {1: 2, (3, 4): 5},
    "a dict": {"x": "y"},
    "NaN": math.nan,
    "infinite": math.inf,
    "a huge number": 10**400,
    "a tensor": torch.zeros(2, 3),
    "integers": torch.zeros(3, dtype=torch.int64),
    "a tensor of NaN": {"mean": torch.full((3, 1, 1), math.nan)},
    "a sparse tensor": {"mean": torch.eye(3).to_sparse()},
    "a meta tensor": {"mean": torch.zeros(3, device="meta")},
}
FIT = {  # what may stand there
    "ema": {"None"},
    "scaler": {"an empty dict"},
    "ema_updates": {"a number"}, "step": {"a number"}, "stale": {"a number"},
    "seconds": {"a number"},
    "best": {"a number", "below zero", "infinite"},
    "progress": {"an empty dict"},
    "preprocessing": {"missing"},  # only `backbone.weights` reads it
    "categories": {"None"},
    "processes": {"missing", "a number"},
    "format": {"a number"}, "device": {"missing", "a text", "a huge text"},
    "choices": {"missing", "an empty dict", "a dict"},
    "epoch": {"a number"},  # the history is held against it only to resume
}  # fmt: skip


@pytest.mark.parametrize("key", ["format", *ENTRIES, *RESUMED], ids=lambda key: f"entry {key}")
def test_every_entry_of_a_wrong_kind_is_refused_by_name(key, whole):
    action = read if key in ("format", *ENTRIES) and key != "model" else resume
    for name, value in WRONG.items():
        if name in FIT.get(key, ()):
            action(whole, put(whole[0], [key], value))
        else:
            message = refusal(action, whole, put(whole[0], [key], value))
            assert key in message or "another network" in message, (name, message)


NESTED = {  # of what is read to predict
    "format": [0, -3, 2.5, FORMAT + 1, 10**30, "5", False],
    "epoch": [-1, 1.5, True, "1"],
    "classes": [["a"] * 5, ["a", "b", "", "d", "e"], ["a", "b", 3, "d", "e"], ["a"], "abcde",
                ["x" * 100_000, "b", "c", "d", "e"], [["a"], "b", "c", "d", "e"], ["\0" * 600]],
    "categories": [[1, 2], [1, 1, 2, 3, 4], ["1", "2", "3", "4", "5"], {"1": 2}],
    "config backbone": [MISSING, None, "resnet", [], {}, 5, {"depth": 8}],
    "config head": [MISSING, {"_target_": 5}, {"_target_": ""}, {"_target_": None}],
    "config optimizer": [MISSING, []],
    "config metric": [MISSING, {}],
    "config trainer": [None, 5, "x", [], {"epochs": "x"}, {"epochs": -1}, {"unknown": 1}],
    "config trainer precision": ["fp8", 5, None],
    "config loader": [{"batch_size": 0}, {"batch_size": math.nan}],
    "config preprocessing mean": [[1.0], ["a", "b", "c"], 5],
    "config backbone depth": ["8", 9, -8, 2.5, None, [8]],
    "config backbone unknown": [1],
    "config head dropout": ["x"],
    "config loss smoothing": ["x", None],
    "config seed": ["x", None, [], -1],
    "config unknown_group": [{"_target_": "os.system"}, 5],
    "config trainer minutes": [torch.zeros(2), {1: 2}, b"bytes", "x"],
    "model mean": [MISSING, None, 5, torch.zeros(2), torch.zeros(3, 1, 1, dtype=torch.int64)],
    "ema backbone.conv1.weight": [
        MISSING, [0.0], torch.zeros(4, 3, 3), torch.full((4, 3, 3, 3), math.nan),
        torch.full((4, 3, 3, 3), -math.inf), torch.zeros(4, 3, 3, 3, dtype=torch.complex64),
        torch.full((4, 3, 3, 3), 1e300, dtype=torch.float64),
        torch.zeros(4, 3, 3, 3, dtype=torch.int8),
    ],
    "ema backbone.bn1.running_var": [torch.full((4,), -1.0)],
    "ema backbone.bn1.num_batches_tracked": [torch.tensor(0.5)],
}  # fmt: skip
UNSEEN = {("model mean", i) for i in (0, 3, 4)}  # the average is what predicts


@pytest.mark.parametrize("keys", NESTED)
def test_nested_values_of_a_wrong_kind_are_refused(keys, whole):
    for i, value in enumerate(NESTED[keys]):
        path = keys.split()
        if value is MISSING or path[-1].startswith("unknown") or path == ["categories"]:
            state = copy.deepcopy(whole[0])
            node = state
            for key in path[:-1]:
                node = node[key]
            node.pop(path[-1], None) if value is MISSING else node.update({path[-1]: value})
        else:
            state = put(whole[0], path, value)
        refusal(resume if (keys, i) in UNSEEN else read, whole, state)


WORDS = torch.zeros(624, dtype=torch.int64)
NOT_RESUMED = {
    "optimizer param_groups 0 lr": ["x", math.nan, -1.0, None, MISSING, True],
    "optimizer param_groups 0 betas": [[0.9], 5, ["a", "b"], MISSING],
    "optimizer param_groups 0 amsgrad": [1.5, "x"],
    "optimizer param_groups 0 params": [[], [0], [0, 0], "x", [99], MISSING],
    "optimizer param_groups 1 weight_decay": [math.inf, "x"],
    "optimizer param_groups": [[], [{}], [{"params": [0]}]],
    "optimizer state 0": [{"exp_avg": torch.zeros(4, 3, 3, 3)}, [], "x", {1: 2}],
    "optimizer state 0 exp_avg": [torch.zeros(2), torch.full((4, 3, 3, 3), math.nan), "x", MISSING,
                                  torch.zeros(4, 3, 3, 3, dtype=torch.int64), [0.0]],
    "optimizer state 0 step": ["x", torch.tensor(math.inf), math.nan, MISSING],
    "schedule base_lrs": [[0.1], ["a", "b"], [math.nan] * 2, None, MISSING, [-1.0] * 2],
    "schedule last_epoch": [-1, "x", 0.5, MISSING],
    "schedule lr_lambdas": [MISSING, [], [{"a": 1}, None], [None]],
    "schedule _last_lr": ["x", [1.0]],
    "guard row": [-1, "x", MISSING, 1.5],
    "progress batches": [-1, "x", 0.5],
    "progress losses": [{"class": torch.zeros(())}, {"count": 1.0}, [1.0], {1: torch.zeros(())},
                        {"count": torch.zeros(2)}],
    "history": [[{}], [{"epoch": "x"}], [5], [], [{"epoch": 1, 2: 3}], [{"epoch": 1}] * 2],
    "random python": [MISSING, [3], [3, [0] * 625, "x"], [3, [0] * 624 + [625], None],
                      [2, [0] * 625, None], [3, [-1] * 625, None], [3, ["a"] * 625, None]],
    "random numpy": [MISSING, ["MT19937"], ["PCG64", WORDS, 0, 0, 0.0],
                     ["MT19937", WORDS, 10**9, 0, 0.0], ["MT19937", WORDS, -1, 0, 0.0],
                     ["MT19937", torch.zeros(3, dtype=torch.int64), 0, 0, 0.0],
                     ["MT19937", torch.zeros(624), 0, 0, 0.0]],
    "random torch": [MISSING, torch.zeros(3, dtype=torch.uint8), torch.zeros(5056), "x",
                     torch.zeros(5056, dtype=torch.uint8)],
    "random cuda": [MISSING, "x", [5], [torch.zeros(3)]],
    "scaler": [{"scale": 1.0}, {"scale": "x"}],
    "epoch": [0, 2],
}  # fmt: skip


@pytest.mark.parametrize("keys", NOT_RESUMED)
def test_what_a_run_goes_on_from_is_held_against_the_run(keys, whole):
    path = [int(key) if key.isdecimal() else key for key in keys.split()]
    for value in NOT_RESUMED[keys]:
        refusal(resume, whole, put(whole[0], path, value))
    read(whole, put(whole[0], path, NOT_RESUMED[keys][0]))  # it predicts


def leaves(node, path=()):
    """The places of a state's values, of long lists and of tensors by name the first two."""
    items = list(node.items() if isinstance(node, dict) else enumerate(node))
    for key, value in items[:2] if path[:1] != ("config",) and len(items) > 20 and path else items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))


def test_no_change_anywhere_is_a_traceback(whole):
    places = [p for p in leaves(whole[0]) if len(p) > 1 and p[0] != "config"]
    assert len(places) > 100
    refused = went_on = 0
    for place in places:
        for value in (MISSING, "x", torch.zeros(1, 2, 3), {}):
            state = put(whole[0], list(place), value)
            try:
                resume(whole, state)
                went_on += 1
            except UserError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 2 * went_on, (refused, went_on)
    resume(whole, whole[0])


def test_no_change_of_the_configuration_is_a_traceback(whole):
    places = [p for p in leaves(whole[0]) if p[0] == "config" and len(p) > 1]
    assert len(places) > 10
    for i, place in enumerate(places[::6]):
        value = (MISSING, "x", {}, [5], -1)[i % 5]
        try:
            read(whole, put(whole[0], list(place), value))
        except UserError as error:
            assert "\n" not in str(error)
