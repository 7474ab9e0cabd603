"""The rules that keep the code readable, held by a test."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from engine.config import CONFIGS

ROOT = CONFIGS.parent
FLOORS = {
    "engine": {"engine"},
    "classify": {"engine", "classify"},
    "detect": {"engine", "classify", "detect"},
}
COMMANDS = ("train.py", "eval.py", "predict.py")
SOURCES = [ROOT / name for name in COMMANDS] + [
    path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))
]
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def short(path):
    return path.relative_to(ROOT).as_posix()


every_source = pytest.mark.parametrize("path", SOURCES, ids=short)


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path):
    """The top packages of every import, wherever in the file it stands."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{short(path)}:{node.lineno}: a relative import"
            yield node.module.split(".")[0]


def test_there_is_something_to_look_at():
    assert {short(path).split("/")[0] for path in SOURCES} == {*FLOORS, *COMMANDS}
    assert len(SOURCES) > 40


@every_source
def test_imports_point_down(path):
    allowed = FLOORS.get(
        short(path).split("/")[0], {"engine"}
    )  # the commands know the engine alone
    assert set(imported(path)) & set(FLOORS) <= allowed


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
         sorted((CONFIGS / group).rglob("*.yaml"))]  # fmt: skip


@pytest.mark.parametrize("path", NAMED, ids=lambda p: f"{p.parent.name}={p.stem}")
def test_one_word_for_one_thing(path):
    # head=ssd is the class SSD of detect/heads/ssd.py, head=mlp_alexnet a variant of mlp.py's MLP.
    module, _, name = OmegaConf.load(path)._target_.rpartition(".")
    file = module.rpartition(".")[2]
    assert plain(name) == plain(file)
    assert path.stem == file or path.stem.startswith(f"{file}_")
    assert Path(ROOT, *module.split(".")).with_suffix(".py").is_file()
