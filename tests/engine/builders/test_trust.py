"""A checkpoint is data from a stranger: nothing that its configuration names is run unasked."""

import sys
from pathlib import Path

import hydra
import pytest
import torch
from command_line import ended
from omegaconf import OmegaConf

from classify.metrics.top_k import TopK
from engine.builders import from_checkpoint, parts
from engine.builders.instantiate import part
from engine.builders.trust import SPECIAL, check_saveable, named_in, packages, refuse_foreign
from engine.config import schema
from engine.errors import UserError
from engine.weights.migrate import FORMAT

GROUPS = list(parts.INJECTED_ARGUMENTS)
WRITER = "engine.output.predictions.Writer"  # its constructor empties a file


def compose(name, *overrides):
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return hydra.compose(name, overrides=list(overrides))


@pytest.fixture(scope="module")
def config():
    """The configuration of a run, as its checkpoints have it."""
    return schema.plain(compose("train"))


def changed(config, key, value):
    """The configuration with a value at a dotted key, whatever was there."""
    name, _, rest = key.partition(".")
    return {**config, name: changed(config.get(name) or {}, rest, value) if rest else value}


def save(folder, config):
    state = {"config": config, "classes": ["a"], "model": {}, "ema": None, "epoch": 0}
    path = folder / "a.pt"
    torch.save({"format": FORMAT, **state}, path)
    return path


def load(path, *overrides, command="predict"):
    cfg = compose(command, f"checkpoint='{path}'", *overrides)
    return from_checkpoint.load(str(path), cfg, torch.device("cpu"))[1]


def refusal(action, *given, **more):
    with pytest.raises(UserError) as caught:
        action(*given, **more)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    return message


CREATED = "${oc.create:{_target_: pathlib.Path.touch, self: canary}}"
INTERPOLATED = {
    "backbone": CREATED,
    "head.dropout": "${oc.env:HOME}",
    "head.coder": CREATED,
    "head.scales": [1.0, CREATED],
    "head.postprocess.iou": "${seed}",
    "loss.box": {"_target_": "detect.losses.box.GIoU", "weight": [[{"a": [CREATED]}]]},
    "optimizer.lr": "${oc.decode:'1'}",
    "dataset.classes": ["a", "${oc.env:SECRET}"],
    "dataset.root": "a folder called \\${seed}",
    "augment.hue": "x${hydra:runtime.cwd}",
    "metric": "${loss}",
    "image_size": "${oc.create:[32,32]}",
    "trainer.epochs": "${seed}",
    "loader.sizes": ["${seed}"],
    "preprocessing.mean": ["${seed}", 1.0, 1.0],
    "device": "${oc.env:HOME}",
    "unknown": "${seed}",
    "head": {"_target_": "classify.heads.linear.Linear", "${seed}": 1},
}


@pytest.mark.parametrize("key", INTERPOLATED)
def test_a_saved_configuration_has_no_interpolation(key, config, tmp_path):
    path = save(tmp_path, changed(config, key, INTERPOLATED[key]))
    message = refusal(load, path, "trust=true")
    assert message.startswith(f"{path}: its configuration has an interpolation at {key}")


@pytest.mark.parametrize("where", ["backbone", "metric", "head.coder", "loss.box", "augment"])
def test_a_class_with_an_effect_is_not_built_by_any_command(where, config, tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("not to be lost")
    writer = {"_target_": WRITER, "path": str(precious), "categories": [1]}
    text = f"${{oc.create:{{_target_: {WRITER}, path: {precious}, categories: [1]}}}}"
    lines = (["predict.py", "checkpoint={}", f"source={tmp_path}"],
             ["eval.py", "checkpoint={}"], ["train.py", "resume={}"])  # fmt: skip
    for node, commands in ((text, lines[:1]), (writer, lines[1:])):
        path = save(tmp_path, changed(config, where, node))
        for command, more in (("predict", "source=."), ("eval", "split=val")):
            assert str(path) in refusal(load, path, more, command=command)
        if where == "backbone":
            for line in commands:
                line = [word.format(path) for word in line]
                done = ended(*line, f"hydra.run.dir={tmp_path}/run", cwd=tmp_path)
                assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert precious.read_text() == "not to be lost"


FOREIGN = [
    ("backbone", {"_target_": "engine.weights.checkpoint.save", "path": "a", "state": {}}),
    ("head", {"_target_": "engine.train.hydra.utils.get_class", "path": "os"}),
    ("loss", {"_target_": "classify.losses.Focal", "x": {"y": {"_target_": "shutil.rmtree"}}}),
    ("loss", {"_target_": "classify.losses.Focal", "x": [[{"_target_": "builtins.exec"}]]}),
    ("metric", {"_target_": "classify.metrics.top_k.np.fromfile"}),  # imported there
    ("dataset", {"_target_": "detect.datasets.voc.Path"}),
    ("augment", {"_target_": "engine.data.augment"}),
    ("schedule", {"_target_": ["engine.training.schedule.Cosine"]}),
    ("schedule", {"_target_": None}),
    ("clip", {"_target_": ""}),
    ("optimizer", {"_target_": "torch.optim.LBFGS", "_partial_": True}),
    ("optimizer", {"_target_": "torch.optim.adamw.AdamW", "_partial_": True}),
    ("image_size", {"_target_": "pathlib.Path"}),
    ("finetune", {"_target_": "engine.training.finetune.Finetune", "last": {"_target_": "a.B"}}),
    ("head", {"_target_": "x" * 100_000}),
]


@pytest.mark.parametrize(("key", "node"), FOREIGN, ids=lambda value: str(value)[:60])
def test_only_what_the_yaml_files_of_its_group_name(key, node, config, tmp_path):
    path = save(tmp_path, changed(config, key, node))
    message = refusal(load, path)
    assert message.startswith(f"{path}: its configuration calls ") and f" at {key}" in message


def test_no_class_of_another_group(config):
    nothing = OmegaConf.create({})
    count = 0
    for group in GROUPS:
        assert named_in(group)
        for target, special in ((t, s) for g in GROUPS for t, s in named_in(g).items()):
            merged = OmegaConf.create({group: {"_target_": target, **special[0]}})
            if target in named_in(group):
                refuse_foreign(merged, nothing, False, "a.pt")
            else:
                assert target in refusal(refuse_foreign, merged, nothing, False, "a.pt")
                count += 1
    assert count > 300


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("group", GROUPS)
def test_hydras_special_keys_are_refused_but_where_the_yaml_has_them(group, special, config):
    nothing = OmegaConf.create({})
    if special not in config[group]:
        merged = OmegaConf.create({**config, group: {**config[group], special: True}})
    else:  # the optimizer is made without its parameters
        node = {key: value for key, value in config[group].items() if key != special}
        merged = OmegaConf.create({**config, group: node})
    message = refusal(refuse_foreign, merged, nothing, [], "a.pt")
    assert message.startswith(f"a.pt: its configuration has {group}.{special}, which is not as")
    merged = OmegaConf.create({**config, group: {**config[group], "x": {special: []}}})
    assert f"{group}.x.{special}" in refusal(refuse_foreign, merged, nothing, [], "a.pt")


@pytest.fixture
def my_parts(tmp_path, monkeypatch):
    """A package of the user's, on the path of modules."""
    (tmp_path / "my_parts").mkdir()
    (tmp_path / "my_parts/__init__.py").write_text(
        "import os\nfrom pathlib import Path\nfrom torch import nn\n"
        "from my_parts.inner import Loss\n"
    )
    (tmp_path / "my_parts/inner.py").write_text("class Loss: pass\ndef make(): pass\n")
    (tmp_path / "my_parts_too.py").write_text("class Loss: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("my_parts", "my_parts.inner", "my_parts_too"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("my_parts")
@pytest.mark.parametrize(
    ("target", "trust", "message"),
    [
        ("my_parts.Loss", "[my_parts]", None),
        ("my_parts.inner.Loss", "[my_parts]", None),
        ("my_parts.inner.make", "[a,my_parts.inner]", None),
        ("my_parts.Loss", "true", None),
        ("shutil.rmtree", "true", None),
        ("my_parts.Loss", "false", "trust=[my_parts]"),
        ("my_parts.Loss", "[]", "trust=[my_parts]"),
        ("my_parts.Loss", "[my_part]", "trust=[my_parts]"),
        ("my_parts_too.Loss", "[my_parts]", "trust=[my_parts_too]"),
        ("my_parts.inner.Loss", "[my_parts.other]", "trust=[my_parts]"),
        ("my_parts.os.system", "[my_parts]", "defined elsewhere, in posix"),
        ("my_parts.Path", "[my_parts]", "defined elsewhere, in pathlib"),
        ("my_parts.nn.Linear", "[my_parts]", "defined elsewhere, in torch.nn"),
        ("my_parts.gone.Loss", "[my_parts]", "cannot import my_parts.gone.Loss"),
        ("shutil.rmtree", "[my_parts]", "trust=[shutil]"),
    ],
)
def test_trust_names_packages(target, trust, message, config, tmp_path):
    node = {"_target_": target, "_partial_": True, "more": 1}
    path = save(tmp_path, changed(config, "loss.box", node))
    if message is None:
        assert load(path, f"trust={trust}").loss.box == node
    else:
        assert message in refusal(load, path, f"trust={trust}")


@pytest.mark.usefixtures("my_parts")
def test_a_trusted_class_does_not_vouch_for_what_is_inside_it(config, tmp_path):
    inside = {"_target_": "my_parts.Loss", "box": [{"_target_": "shutil.rmtree"}]}
    path = save(tmp_path, changed(config, "loss", inside))
    assert "shutil.rmtree at loss.box.0" in refusal(load, path, "trust=[my_parts]")


@pytest.mark.parametrize(
    ("trust", "hint"),
    [
        ("5", ""), ("my_parts", ": trust=[my_parts]"), ("yes_please", ": trust=[yes_please]"),
        ("1.5", ""), ("[1]", ""), ("[true]", ""), ("['os system']", ""), ("[a/b]", ""),
        ("['.a']", ""), ("{a: 1}", ""), ("[[a]]", ""), ("''", ""), ("['']", ""), ("[null]", ""),
    ],
)  # fmt: skip
def test_trust_is_true_false_or_a_list_of_packages(trust, hint, config, tmp_path):
    message = refusal(load, save(tmp_path, config), f"trust={trust}")
    assert message.startswith("trust=") and "expected a list of packages" in message
    assert message.endswith(f"or false{hint}")


def test_trust_in_short():
    assert packages(None) is False and packages(True) is True and packages([]) == []
    assert packages(OmegaConf.create(["a.b", "c"])) == ["a.b", "c"]


def test_a_checkpoint_fetches_nothing_unasked(config, tmp_path):
    kind = "classify.datasets.torchvision.Torchvision"
    node = {"_target_": kind, "name": "MNIST", "root": "x", "download": True}
    path = save(tmp_path, changed(config, "dataset", node))
    assert load(path).dataset.download is False
    assert load(path, "+dataset.root=y").dataset == node | {"root": "y", "download": False}
    assert load(path, "+dataset.download=true").dataset.download is True
    assert load(path, f"+dataset={{_target_: {kind}, download: true}}").dataset.download is True


def test_a_class_of_ours_in_another_place_is_not_offered_for_trust(config, tmp_path):
    for target in (WRITER, "engine.whole_file.write_whole", "classify.losses.CrossEntropy"):
        path = save(tmp_path, changed(config, "backbone", {"_target_": target}))
        message = refusal(load, path)
        assert "train.py wrote no such file" in message and "trust=" not in message


def test_what_the_user_names_may_be_any_class(config, tmp_path):
    foreign = {"_target_": "somebody.Data", "root": "x"}
    path = save(tmp_path, changed(config, "dataset", foreign))
    own = "+dataset={_target_: my_parts.Data, list: [{_target_: my_parts.More}]}"
    merged = load(path, own)
    assert merged.dataset["_target_"] == "my_parts.Data"  # what replaces the checkpoint's
    assert "calls somebody.Data at dataset" in refusal(load, path, "+dataset.root=y")
    nested = save(tmp_path, changed(config, "head.coder", foreign))
    assert "calls somebody.Data at head.coder" in refusal(load, nested)
    assert "calls somebody.Data" in refusal(load, nested, "+head.coder.root=y")
    assert load(nested, "+head.coder={_target_: mine.Coder}").head.coder == {
        "_target_": "mine.Coder"
    }


def test_names_of_classes_are_data_and_no_interpolations():
    node = OmegaConf.create({"_target_": "classify.metrics.top_k.TopK"})
    names = ["${oc.env:HOME}", "${oc.create:{_target_: pathlib.Path, _args_: [a]}}"]
    made = part(node, "metric", classes=names)
    assert isinstance(made, TopK) and made.classes == names


def test_a_run_saves_its_configuration_resolved(tmp_path):
    cfg = compose("train", "trainer.limit=${loader.batch_size}", "dataset.val=${seed}",
                  "augment.hue=${oc.decode:'0.1'}")  # fmt: skip
    saved = schema.plain(cfg)
    assert "${" not in str(saved) and saved["trainer"]["limit"] == 8
    check_saveable(saved, ["a"])
    assert load(save(tmp_path, saved)).augment.hue == 0.1


def test_a_run_that_could_not_be_read_again_does_not_start(config):
    kept = schema.plain(compose("train", r"+dataset.root='\${seed}'"))
    assert refusal(check_saveable, kept, ["a"]).startswith("dataset.root=${seed}: got ${ as plain")
    for classes in (["a", "a"], ["a", ""], [], ["x" * 501], [1]):
        assert "classes need names" in refusal(check_saveable, config, classes)
    for ids in ([1.0], ["a"], [1.5], [True], [None]):
        assert "ids of its categories must be" in refusal(check_saveable, config, ["a"], ids)
    assert "all different" in refusal(check_saveable, config, ["a", "b"], [1, 1])
    for ids in ([0], [-3], None):
        check_saveable(config, ["a"], ids)


def test_every_option_of_every_group_may_be_in_a_checkpoint(config):
    options = {group: sorted((schema.CONFIGS / group).glob("*.yaml")) for group in GROUPS}
    for group, files in options.items():
        for file in files:
            node = OmegaConf.to_container(OmegaConf.load(file))
            node = node.get(group, node) if isinstance(node, dict) else node
            merged = OmegaConf.create({**config, group: node})
            refuse_foreign(merged, OmegaConf.create({}), False, str(Path(file).name))
    assert sum(map(len, options.values())) > 90


@pytest.mark.parametrize("name", ["engine", "detect.heads", "classify"])
def test_this_programs_own_code_is_not_for_trust(name):
    assert refusal(packages, ["mine", name]).startswith(f"trust=[{name}]: what a run saves")
