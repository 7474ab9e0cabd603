"""`--help` of every command: what it does, its keys with a line each, examples that are true."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import hydra
import pytest
from command_line import ROOT, ended
from layers import sources

from detect.kmeans import KMeans
from engine import cli
from engine.config import comments, keys, schema, tools
from engine.config.arguments import check_arguments, program
from engine.config.check import check_values
from engine.config.describe import help_words, required

WORDS = help_words()
EXAMPLES = [(name, line) for name, about in WORDS["commands"].items()
            for line in about["examples"].values()]  # fmt: skip
NAMED = vars(schema) | vars(tools)
SCHEMAS = [KMeans, *(kind for name, kind in NAMED.items() if name.endswith("Config")
                     and is_dataclass(kind))]  # fmt: skip
PARTS = [(group, option) for group in keys.groups() if group not in keys.PRESETS
         for option in keys.options(group)]  # fmt: skip


def script(name):
    return program(name).removeprefix("python ").split()


def helped(command, cwd):
    """What `--help` prints, after its exit code and its width were looked at."""
    process = ended(*command, "--help", cwd=cwd)
    assert process.returncode == 0 and not process.stderr, process.stderr
    assert max(map(len, process.stdout.splitlines())) <= 100
    assert not list(cwd.iterdir())  # no run folder
    return process.stdout


def rows(text):
    """The keys of a help text: the line of each, and those that are marked."""
    found, marked, last = {}, set(), None
    for line in text[text.index("\nKeys: ") :].splitlines():
        if row := re.match(r" {2}([ *]) ([\w.]+)=(\S*)( {2,}(.*))?$", line):
            last = row[2]
            found[last] = row[5] or ""
            marked |= {last} if row[1] == "*" else set()
        elif last and re.match(r" {15}", line):
            found[last] = f"{found[last]} {line.strip()}".strip()
        else:
            last = None
    return found, marked


def test_the_help_knows_every_command_and_every_group():
    names = {name for path in [*sources("engine", "detect"), *ROOT.glob("*.py")]
             for name in re.findall(r'^@command\("(\w+)"', path.read_text(), re.M)}  # fmt: skip
    assert names == set(WORDS["commands"]) and len(names) == 12
    assert set(WORDS["groups"]) == set(keys.groups())


@pytest.mark.parametrize("name", WORDS["commands"])
def test_help_has_what_it_does_three_examples_and_a_line_for_each_key(name, tmp_path):
    text, about = helped(script(name), tmp_path), WORDS["commands"][name]
    flat = " ".join(text.replace("\\\n", " ").split())
    assert flat.startswith(f"usage: python {' '.join(script(name))}")
    assert about["does"].strip() in flat and len(about["examples"]) == 3
    for what, line in about["examples"].items():
        assert f"{what} python {' '.join(script(name))} {line}" in flat
    found, _ = rows(text)
    assert len(found) >= 7 and not [key for key, line in found.items() if not line]
    assert "--cfg job" in text and "-m KEY=A,B" in text and "--hydra-help" in text
    own = set(vars(keys.schema_of(name))["__annotations__"])  # what it has beside train.py's keys
    assert own <= {key.split(".")[0] for key in found} or name in (
        "train",
        "eval",
        "predict",
        "bench",
        "explain",
        "report",
    )


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_an_example_composes_as_the_command_would(name, line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*script(name)[-1:], *shlex.split(line)])
    config_name = cli.configuration(name)
    assert not check_arguments(name, config_name).help
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        cfg = hydra.compose(config_name, sys.argv[1:])
    check_values(cfg)
    read = WORDS["reads"].get(config_name, [*keys.known(config_name), *keys.groups()])
    given = {item.partition("=")[0] for item in sys.argv[1:]} - {"hydra.run.dir"}
    assert all(any(f"{key}.".startswith(f"{k}.") for k in read) for key in given), given


@pytest.mark.parametrize("name", WORDS["reads"])
def test_keys_that_a_command_is_said_to_read_are_there(name):
    known = {*keys.known(name), *keys.groups(), *(f.name for f in fields(keys.schema_of(name)))}
    assert not set(WORDS["reads"][name]) - known


def test_each_key_of_a_checkpoints_commands_is_in_the_help_of_one():
    shown = {key for name in ("resume", "eval", "predict") for key in WORDS["reads"][name]}
    assert {f.name for f in fields(schema.ResumeConfig)} - shown == {"unchanged"}


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.__name__)
def test_every_key_of_the_schema_has_a_line(kind):
    texts, hints = comments.of_schema(kind), get_type_hints(kind)
    named = [f.name for f in fields(kind) if not is_dataclass(hints[f.name])]
    own = [n for n in named if n not in keys.groups() or kind is schema.CheckpointConfig]
    assert own and not [name for name in own if not texts[name]]


@pytest.mark.parametrize(("group", "option"), PARTS)
def test_every_key_of_every_option_has_a_line(group, option):
    texts, own = comments.of_option(group, option), keys.own_keys(group, option)
    place = {k if "finetune.finetune" not in k else k.partition(".")[2] for k in own}
    place = {key.replace("loss/box.", "loss.box.") for key in place}
    leaves = [k for k in place if "._" not in k and not any(o.startswith(f"{k}.") for o in place)]
    assert not [key for key in leaves if not texts[key]]


def test_comments_are_read_behind_values_of_every_form(tmp_path, monkeypatch):
    (tmp_path / "head/_base").mkdir(parents=True)
    (tmp_path / "head/_base/inner.yaml").write_text("deep: 1  # one deep\nkept: 2  # two\n")
    (tmp_path / "head/some.yaml").write_text(
        "defaults:\n  - _base/inner@inside\n_target_: a.B\n"
        "text: '# no comment'  # a text\nlist:  # of lists\n  - [1, 2]\n  - [3, 4]\n"
        "flow:  # below\n  [5, 6]\nbare: 7\ninside:\n  deep: 3  # three\n"
    )
    monkeypatch.setattr(comments, "CONFIGS", tmp_path)
    assert comments._of_file.__wrapped__("head", "some") == {
        "head.defaults": "",
        "head._target_": "",
        "head.text": "a text",
        "head.list": "of lists",
        "head.flow": "below",
        "head.bare": "",
        "head.inside": "",
        "head.inside.deep": "three",
        "head.inside.kept": "two",
    }
    (tmp_path / "head/whole.yaml").write_text("# @package _global_\nhead:\n  a: 1  # one\nb: 2\n")
    found = comments._of_file.__wrapped__("head", "whole")
    assert found == {"head": "", "head.a": "one", "b": ""}


def test_what_a_command_does_nothing_without_is_marked(tmp_path):
    assert required(["a=1 b.c=D [e=f]", "a=2 g=h"]) == {"a", "b.c", "g"}
    assert required(["[a=1 b=2]", "c=3"]) == set()
    assert rows(helped(["predict.py"], tmp_path))[1] == {"checkpoint", "source"}
    marked = rows(helped(["eval.py"], tmp_path))[1]
    assert marked == {"checkpoint", "truth", "predictions", "metric.KEY", "dataset.KEY"}
    assert rows(helped(["train.py"], tmp_path))[1] == set()
    assert rows(helped(["train.py", "dataset=voc"], tmp_path))[1] == {"dataset.root"}


@pytest.mark.parametrize(
    ("line", "message"),
    [("predict.py", "set source="), ("predict.py source=x", "set checkpoint=PATH, or model="),
     ("eval.py", "set checkpoint=PATH, or predictions=FILE")],
)  # fmt: skip
def test_without_what_is_marked_the_command_says_so(line, message, tmp_path):
    process = ended(*line.split(), cwd=tmp_path)
    assert process.returncode == 2 and message in process.stderr


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("train.py model=ssd300_vgg16", ["[ssd300_vgg16]", "head=ssd_paper_300 (detect.",
                                         "head.postprocess.iou=0.45", "image_size=300"]),
        ("train.py model=resnet18 loss=bce loss/box=giou", ["loss=bce (classify.losses.BCE)"]),
        ("train.py loss/box=giou", ["[giou]", "loss.box.weight="]),
        ("train.py finetune=extra_head", ["finetune.last=0 ", "head=stacked_linear"]),
        ("train.py trainer.epochs=3 -m loss=focal,bce", ["trainer.epochs=3 ", "loss=focal ("]),
        ("train.py experiment=null", ["experiment: a whole run"]),
        ("train.py resume=nowhere.pt model=resnet18", ["profile=null", "trainer.KEY=VALUE"]),
        ("train.py resume=auto", ["the checkpoint to go on from, or auto"]),
        ("train.py resume=null", ["seed=0"]),
        ("eval.py truth=x.json", ["* predictions=null", "dataset.annotations=${truth}"]),
        ("eval.py dataset=voc metric=voc_map", ["* dataset.root=???", "metric.rule=all_point"]),
        ("predict.py model=resnet18", ["backbone=resnet18 (", "* source=null", "trainer.limit="]),
        ("-m engine.summary model=vgg16", ["backbone=vgg16 (", "num_classes=20"]),
        ("-m detect.kmeans augment=yolo", ["augment.fit=letterbox", "k=9"]),
    ],
)  # fmt: skip
def test_help_is_of_what_the_command_line_chooses(line, texts, tmp_path):
    text = helped(line.split(), tmp_path)
    assert not [part for part in texts if part not in text]
    assert not [key for key, line in rows(text)[0].items() if not line]


@pytest.mark.parametrize(
    ("line", "message"),
    [("train.py model=nosuch", "no such model"), ("train.py epochs=3", "trainer.epochs=3"),
     ("eval.py trainer.limit", "expected key=value"), ("train.py --nosuch", "--nosuch")],
)  # fmt: skip
def test_a_mistake_beside_help_is_one_line(line, message, tmp_path):
    process = ended(*line.split(), "--help", cwd=tmp_path)
    assert process.returncode == 2 and not process.stdout
    assert message in process.stderr and process.stderr.count("\n") == 1


def test_options_of_a_folder_of_the_users_own(tmp_path):
    (tmp_path / "parts/backbone").mkdir(parents=True)
    (tmp_path / "parts/backbone/mine.yaml").write_text("_target_: my.Net\nwide: 3\n")
    for option in (f"hydra.searchpath=[file://{tmp_path}/parts]", f"--config-dir={tmp_path}/parts"):
        process = ended("train.py", option, "backbone=mine", "--help", cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        assert "[mine]" in process.stdout and "backbone.wide=3" in process.stdout


def test_no_help_loads_torch(tmp_path):
    code = (
        "import runpy, sys\n"
        "for name, line in [('train', []), ('predict', ['model=resnet18']), ('eval', [])]:\n"
        "    sys.argv = [name, *line, '--help']\n"
        f"    try: runpy.run_path(f'{ROOT}/{{name}}.py', run_name='__main__')\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "for name in ('summary', 'check', 'lr_find', 'bench'):\n"
        "    sys.argv = [name, '--help']\n"
        "    try: runpy.run_module(f'engine.{name}', run_name='__main__')\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "sys.argv = ['kmeans', '-h']\n"
        "try: runpy.run_module('detect.kmeans', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment,
                             capture_output=True, text=True)  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("usage: python") == 8
