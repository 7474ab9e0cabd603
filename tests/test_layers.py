"""The rules that keep the code readable, held by a test."""

import ast
import subprocess
import sys
from pathlib import Path

import layers
import pytest
from layers import ROOT
from omegaconf import OmegaConf

from engine.config.schema import CONFIGS

COMMANDS = ("train.py", "eval.py", "predict.py")
SOURCES = [ROOT / name for name in COMMANDS] + layers.sources(*layers.PACKAGES)
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def short(path):
    return path.relative_to(ROOT).as_posix()


every_source = pytest.mark.parametrize("path", SOURCES, ids=short)


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def test_there_is_something_to_look_at():
    assert {short(path).split("/")[0] for path in SOURCES} == {*layers.PACKAGES, *COMMANDS}
    assert len(SOURCES) > 40
    rooms = {layers.room(layers.module(p)) for p in layers.sources("engine")} - {""}
    assert rooms == set(layers.FLOOR)


@every_source
def test_imports_point_down(path):
    assert layers.upward(path) == []


@pytest.mark.parametrize(
    ("own", "line"),
    [
        ("engine/config/a.py", "from engine.data import loader"),  # a floor above
        ("engine/data/a.py", "from engine.weights import checkpoint"),  # the same floor
        ("engine/errors.py", "import classify.losses"),
        ("classify/a.py", "from detect.heads.ssd import SSD"),
        ("train.py", "import detect"),
    ],
)
def test_an_import_that_points_up_is_seen(own, line, tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "ROOT", tmp_path)
    (tmp_path / own).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / own).write_text(f"{line}\nfrom engine.errors import UserError\n")
    assert len(layers.upward(tmp_path / own)) == 1


def test_the_engine_names_no_class_of_a_task():
    for path in layers.sources("engine"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(("detect.", "classify.")) or node.value in PREFIXES


PREFIXES = ("detect.", "classify.")  # the packages, whose classes a checkpoint may name


def test_the_configuration_loads_without_torch():
    heavy = "{'torch', 'torchvision', 'cv2', 'numpy'}"
    code = f"import sys, engine.config; sys.exit(str({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


@every_source
def test_no_branch_on_the_task(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Compare):
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            names |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
            assert "task" not in names, f"{short(path)}:{node.lineno}"


def public(body, prefix=""):
    for node in body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


@every_source
def test_every_public_name_has_a_docstring(path):
    module = tree(path)
    assert ast.get_docstring(module)
    assert [name for name, node in public(module.body) if not ast.get_docstring(node)] == []


@every_source
def test_nothing_is_too_long_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 270
    for node in ast.walk(tree(path)):
        if isinstance(node, FUNCTION):
            assert node.end_lineno - node.lineno < 50, f"{node.name} in {short(path)}"


def plain(name):
    return name.replace("_", "").lower()


NAMED = [path for group in ("head", "dataset", "metric") for path in
         sorted((CONFIGS / group).glob("*.yaml"))]  # fmt: skip


@pytest.mark.parametrize("path", NAMED, ids=lambda p: f"{p.parent.name}={p.stem}")
def test_one_word_for_one_thing(path):
    # head=ssd is the class SSD of detect/heads/ssd.py, head=mlp_alexnet a variant of mlp.py's MLP.
    module, _, name = OmegaConf.load(path)._target_.rpartition(".")
    file = module.rpartition(".")[2]
    assert plain(name) == plain(file)
    assert path.stem == file or path.stem.startswith(f"{file}_")
    assert Path(ROOT, *module.split(".")).with_suffix(".py").is_file()
