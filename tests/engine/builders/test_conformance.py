"""What a part has to have, and what it may have, by classes as a user would write them."""

import ast
import textwrap
from collections.abc import Sequence

import layers
import pytest
import torch
from command_line import start
from omegaconf import OmegaConf
from torch import nn

from engine import network_protocols, protocols
from engine.builders.conformance import (
    NETWORK,
    PARTS,
    check_class,
    check_object,
    is_of,
    optional,
    required,
)
from engine.builders.instantiate import check, part
from engine.errors import UserError
from engine.protocols import OutputFields

LOGITS = frozenset({"logits"})
VALUES = {  # a right value for each required attribute that is not a method
    "backbone": {"channels": [8, 16], "strides": (8, 16)},
    "head": {"outputs": LOGITS},
    "loss": {"activation": "softmax", "requires": {"logits"}, "trains": LOGITS},
    "metric": {"primary": "top1", "requires": LOGITS, "protocol": "top 1"},
    "dataset": {"classes": ["a"], "report": [], "notes": []},
    "augment": {
        "fit": "squeeze", "interpolation": "bilinear", "min_visible": 0.3, "centre": False,
        "mosaic": 0.0, "mixup": 0, "mixup_alpha": 0.2, "cutmix": 0.0, "cutmix_alpha": 1.0,
    },
}  # fmt: skip
REQUIRED = [(key, name) for key in PARTS for name in required(key)]
OPTIONAL = [(key, name) for key in PARTS for name in optional(key)]


def method(self, *arguments):
    """Stands in for every method: only whether it is there is checked."""


def members(key):
    names = [n for n in required(key) if n not in VALUES.get(key, {})]
    called = "forward" if PARTS[key].is_module else "__call__"
    return VALUES.get(key, {}) | {called if n == "__call__" else n: method for n in names}


def user_class(key, without=None, **members_instead):
    """A user's class with what is required and nothing besides, from no base class of ours."""
    found = members(key) | members_instead
    if without == "__call__" and PARTS[key].is_module:
        without = "forward"
    found.pop(without, None)
    return type("Mine", (nn.Module,) if PARTS[key].is_module else (), found)


def refusal(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_every_kind_that_the_engine_reads_has_a_protocol():
    assert set(PARTS) == {
        "backbone", "head", "head.coder", "loss", "metric", "dataset", "schedule", "clip",
        "finetune", "augment", "tracker",
    }  # fmt: skip
    assert len(REQUIRED) == 46 and len(OPTIONAL) == 33


@pytest.mark.parametrize("key", PARTS)
def test_what_is_required_is_enough(key):
    mine = user_class(key)
    check_class(mine, key)
    check_object(mine(), key)


@pytest.mark.parametrize(("key", "name"), REQUIRED)
def test_a_lacking_attribute_is_one_line(key, name):
    mine = user_class(key, without=name)
    shown = "forward" if name == "__call__" and PARTS[key].is_module else name
    line = f"{key}: {__name__}.Mine lacks {shown}; see {PARTS[key].name} in "
    file = "network_protocols" if PARTS[key].module == NETWORK else "protocols"
    assert refusal(check_object, mine(), key) == f"{line}engine/{file}.py"


class Bare:
    """Has nothing."""


@pytest.mark.parametrize("key", [key for key in PARTS if not PARTS[key].is_module])
def test_a_class_that_cannot_have_it_is_refused_before_it_is_built(key):
    message = refusal(check_class, Bare, key)
    assert message.startswith(f"{key}: {__name__}.Bare lacks {', '.join(required(key))}; see ")


class Sets:
    """Sets in its constructor what is required, and by name, which no reader of code could see."""

    requires = LOGITS
    update = compute = reset = method

    def __init__(self, *, primary="f1"):
        self.primary = primary
        vars(self)["protocol"] = "F1"


def test_a_constructor_may_set_what_the_class_lacks():
    check_class(Sets, "metric")
    check_object(Sets(), "metric")


def test_what_is_read_of_a_class_must_be_on_it():
    mine = user_class("metric", without="requires", __init__=lambda self: vars(self))
    assert " lacks requires; see Metric in" in refusal(check_class, mine, "metric")
    mine = user_class("head", without="outputs")
    assert " lacks outputs; see Head in" in refusal(check_class, mine, "head")
    assert "is not a class, of which outputs is read" in refusal(check_class, method, "head")


def test_a_head_whose_arguments_decide_needs_no_outputs_on_its_class():
    fields = staticmethod(lambda: LOGITS)
    mine = user_class("head", without="outputs", output_fields=fields)
    check_class(mine, "head")
    assert " lacks outputs; see Head in" in refusal(check_object, mine(), "head")


def test_a_stub_of_the_protocol_is_no_method():
    class Mine(network_protocols.Clip):
        """Inherits, and has nothing of its own."""

    assert " lacks __call__; see Clip in" in refusal(check_class, Mine, "clip")
    assert " lacks __call__; see Clip in" in refusal(check_object, Mine(), "clip")


@pytest.mark.parametrize("key", ["backbone", "head"])
def test_what_has_weights_is_a_module(key):
    for call, mine in ((check_class, Bare), (check_object, Bare())):
        assert refusal(call, mine, key) == (
            f"{key}: {__name__}.Bare is not a torch.nn.Module, whose parameters train; see "
            f"{key.title()} in engine/network_protocols.py"
        )


@pytest.mark.parametrize(
    ("key", "name", "value", "text"),
    [
        ("backbone", "channels", "8", "channels is '8', expected a sequence of int; see"),
        ("backbone", "channels", [8, 1.5], "channels is [8, 1.5], expected a sequence of int"),
        ("backbone", "strides", [8], "Mine has 2 channels and 1 strides, expected one of each"),
        ("head", "outputs", ["logits"], "outputs is ['logits'], expected a set of boxes, logits, "),
        ("head", "outputs", {"logit"}, "{'logit'}, expected a set of boxes, logits, objectness, r"),
        ("head", "decode", None, "decode is None, expected a method; see Head"),
        ("head", "single", 1, "single is 1, expected bool; see Head"),
        ("head", "groups", [], "groups is [], expected a method or None; see Head"),
        ("loss", "activation", "tanh", "'tanh', expected softmax, sigmoid or linear; see Loss"),
        ("loss", "trains", "logits", "trains is 'logits', expected a set of boxes, logits, "),
        ("loss", "takes_shares", "yes", "takes_shares is 'yes', expected bool; see Loss"),
        ("metric", "primary", None, "primary is None, expected str; see Metric"),
        ("metric", "images", {}, "images is {}, expected a method; see Metric"),
        ("dataset", "classes", "ab", "classes is 'ab', expected a list of str; see Dataset"),
        ("dataset", "notes", [1], "notes is [1], expected a list of str; see Dataset"),
        ("dataset", "report", ["x"], "report is ['x'], expected a list of dict; see Dataset"),
        ("dataset", "on_error", "stop", "on_error is 'stop', expected fail or skip; see Dataset"),
        ("dataset", "categories", 7, "categories is 7, expected a sequence of int or float or str"),
        ("augment", "mixup", True, "mixup is True, expected float; see Augment"),
        ("schedule", "plateau_factor", 0.1, "plateau_factor is 0.1, expected a method; see Sch"),
        ("clip", "in_shards", None, "in_shards is None, expected bool; see Clip"),
    ],
)  # fmt: skip
def test_an_attribute_of_a_wrong_kind_is_one_line(key, name, value, text):
    message = refusal(check_object, user_class(key, **{name: value})(), key)
    assert message.startswith(f"{key}: {__name__}.Mine") and text in message


def test_a_long_value_is_cut():
    message = refusal(check_object, user_class("metric", primary=["x" * 99])(), "metric")
    assert f"is ['{'x' * 58}..., expected str" in message


@pytest.mark.parametrize(
    ("value", "hint", "good"),
    [
        (frozenset(), OutputFields, True),
        ({"boxes", "regions"}, OutputFields, True),
        (("boxes",), OutputFields, False),
        (torch.zeros(1), torch.Tensor | None, True),
        (None, torch.Tensor | None, True),
        (3, torch.Tensor | None, False),
        (range(3), Sequence[int], True),
        ([True], Sequence[int], False),
    ],
)
def test_is_of(value, hint, good):
    assert is_of(value, hint) is good


def test_check_and_part_hold_a_node_to_the_protocol_of_its_key():
    node = OmegaConf.create({"_target_": f"{__name__}.Bare"})
    assert "clip: " in refusal(check, node, "clip") and " lacks __call__" in refusal(
        part, node, "clip"
    )
    sets = OmegaConf.create({"_target_": f"{__name__}.Sets", "primary": 5})
    check(sets, "metric")
    assert "Sets.primary is 5, expected str; see Metric" in refusal(part, sets, "metric")
    check(node, "anything")
    assert isinstance(part(node, "anything"), Bare)
    inside = OmegaConf.create({"_target_": f"{__name__}.Holds", "coder": node})
    assert "head.coder: " in refusal(check, inside, "head")


class Holds(nn.Module):
    """A head that has a part inside."""

    outputs = LOGITS
    forward = assign = decode = method

    def __init__(self, *, coder):
        super().__init__()
        self.coder = coder


def test_a_part_without_options_counts_as_with_the_defaults():
    assert network_protocols.LossOptions.single.of(Bare()) is False
    assert protocols.DatasetOptions.on_error.of(Bare) == "fail"
    assert protocols.ScheduleOptions.plateau_factor.of(lambda done: 1.0)(3) == 1.0
    assert protocols.MetricOptions.images.of(Bare())() == {}
    assert network_protocols.ClipOptions.in_shards.of(Bare) is True


OTHER = {"weight"}  # of a layer of torch, not of a part


def test_options_are_read_in_one_way_and_all_of_them():
    """No getattr or hasattr of a part with a fixed name: its default would stand elsewhere."""
    found, read = set(), set()
    for path in layers.sources("engine"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
                found |= {a.value for a in node.args[1:2] if isinstance(a, ast.Constant)}
            if isinstance(node.func, ast.Attribute) and node.func.attr == "of":
                read |= (
                    {node.func.value.attr} if isinstance(node.func.value, ast.Attribute) else set()
                )
    assert found - {"__func__", "full_key", "name", "CSafeLoader"} == OTHER  # of no part
    assert {name for _, name in OPTIONAL} <= read


PARTS_OF_A_USER = """
    import numpy as np
    import torch
    from torch import nn

    from engine.structures import Assigned, Objects, Output
    from engine.record import Record

    ONE = frozenset({"logits"})


    class Pool(nn.Module):
        outputs = ONE

        def __init__(self, *, channels, num_classes):
            super().__init__()
            self.last = nn.Linear(channels[-1], num_classes)

        def forward(self, features, image_size):
            return Output(self.last(features[-1].mean((2, 3)))[:, None])

        def assign(self, output, objects):
            labels = objects.labels.new_zeros(len(output.logits), 1)
            labels[objects.batch_index, 0] = objects.labels
            return Assigned(labels)

        def decode(self, output):
            scores, labels = output.logits[:, 0].softmax(-1).max(-1)
            rows = torch.arange(len(labels), device=labels.device)
            return Objects(scores.new_zeros(len(rows), 4), labels, rows, scores=scores)


    class Entropy:
        def __init__(self):
            self.activation, self.requires, self.trains = "softmax", ONE, ONE

        def __call__(self, output, assigned):
            term = nn.functional.cross_entropy(output.logits[:, 0], assigned.labels[:, 0])
            return {"class": term}


    class Right:
        primary, protocol, requires = "right", "share of right images", ONE

        def __init__(self):
            self.reset()

        def reset(self):
            self.values = []

        def update(self, predicted, true, meta):
            self.values += (predicted.labels == true.labels).tolist()

        def compute(self):
            return {"right": sum(self.values) / max(len(self.values), 1)}


    class Grey:
        def __init__(self, *, split):
            self.classes, self.report, self.notes = ["dark", "bright"], [], []

        def __len__(self):
            return 6

        def record(self, index):
            return Record(index, f"{index}.png", np.array([index % 2]))

        def image(self, index):
            return np.full((40, 40, 3), 200 * (index % 2) + index, np.uint8)
"""
MINE = {"head": "Pool", "loss": "Entropy", "metric": "Right", "dataset": "Grey"}


def folder_of(path, code):
    """A folder with a user's module and one YAML for each of its classes."""
    (path / "users.py").write_text(textwrap.dedent(code))
    for group, name in MINE.items():
        (path / group).mkdir()
        (path / group / "mine.yaml").write_text(f"_target_: users.{name}\n")


def trained(path):
    line = ["hydra.searchpath=[file://.]", *(f"{group}=mine" for group in MINE),
            "backbone=mobilenet_v1_025", "augment=none", "image_size=32", "trainer.epochs=1",
            "loader.batch_size=3", "loader.workers=0", "device=cpu", "trainer.precision=fp32",
            "hydra.run.dir=out"]  # fmt: skip
    line[0] = f"hydra.searchpath=[file://{path}]"
    environment = {"PYTHONPATH": f"{layers.ROOT}:{path}"}
    process = start("train.py", *line, cwd=path, environment=environment)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def test_a_users_parts_without_any_option_train(tmp_path):
    folder_of(tmp_path, PARTS_OF_A_USER)
    code, err = trained(tmp_path)
    assert code == 0, err
    assert (tmp_path / "out/checkpoints/last.pt").exists()
    assert '"right"' in (tmp_path / "out/metrics.json").read_text()


def test_a_users_metric_without_primary_is_one_line_before_data_is_read(tmp_path):
    wrong = PARTS_OF_A_USER.replace(
        'primary, protocol, requires = "right", ', "protocol, requires = "
    )
    first = "def __init__(self, *, split):"
    folder_of(tmp_path, wrong.replace(first, f"{first}\n            raise RuntimeError('read')"))
    code, err = trained(tmp_path)
    assert code == 2
    assert err.strip().splitlines() == [
        "error: metric: users.Right lacks primary; see Metric in engine/protocols.py"
    ]
