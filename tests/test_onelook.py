"""The command `onelook`: its list, its completion, and the wheel that carries it."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from typing import Any

import pytest
from command_line import ROOT, SHAPES, TINY, ended, run

from engine.config.arguments import program
from engine.config.describe import help_words
from engine.errors import UserError
from onelook import command, completion

COMMANDS = list(help_words()["commands"])
WITHOUT_TORCH = """
onelook() { "$PYTHON" -m onelook "$@"; }
onelook
onelook trian; echo "exit code $?"
eval "$(onelook completion bash)"
tab() {  # as bash calls it at a TAB: the line, and the word after the last space or =
    COMP_LINE=$1 COMP_POINT=${#1}
    _onelook onelook "${1##*[ =]}"
    echo "$1: ${COMPREPLY[*]}"
}
tab "onelook tr"
tab "onelook train mod"
tab "onelook train model=ssd3"
tab "onelook train model=ssd_resnet34 trainer.ep"
"""


def bash(script, folder, **environment):
    process = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=folder,
        env=os.environ | {"PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
    )
    return process.stdout, process.stderr


def test_the_list_and_the_completion_of_a_shell_need_no_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('torch is imported')")
    out, err = bash(WITHOUT_TORCH, tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert err == (
        "error: onelook trian: no such command (`onelook --help` lists them); "
        "did you mean 'train'?\n"
    )
    listed, _, completed = out.partition("exit code 2\n")
    names = [line.split()[0] for line in listed.splitlines() if line[:3].strip() and line[0] == " "]
    assert names == [*COMMANDS, "completion"]
    assert completed.splitlines() == [
        "onelook tr: train",
        "onelook train mod: model=",
        "onelook train model=ssd3: ssd300_vgg16",
        "onelook train model=ssd_resnet34 trainer.ep: trainer.epochs=",
    ]


QUERIES = [
    ("onelook ", [*sorted([*COMMANDS, "completion"])]),
    ("onelook e", ["eval", "explain", "export"]),
    ("onelook completion f", ["fish"]),
    ("onelook nonsense k", []),
    ("onelook train mod", ["model="]),
    ("onelook train trainer", ["trainer.", "trainer="]),
    ("onelook train trainer=debug/f", ["trainer=debug/fast"]),
    ("onelook train loss/b", ["loss/box="]),
    ("onelook train loss/box=gi", ["loss/box=giou"]),
    ("onelook train schedule.warm", ["schedule.warmup="]),
    ("onelook train optimizer=adam optimizer.b", ["optimizer.betas."]),
    ("onelook predict model=resnet18 preproc", ["preprocessing."]),  # of weights from elsewhere
    ("onelook predict preproc", []),  # a checkpoint has its own
    ("onelook eval optim", []),
    ("onelook kmeans k", ["k="]),
]


@pytest.mark.parametrize(("line", "found"), QUERIES, ids=[line for line, _ in QUERIES])
def test_what_completes_a_line(line, found, monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    assert completion.query(line) == found


def test_an_unknown_shell_is_named():
    with pytest.raises(UserError, match="completion bsh: expected bash, zsh, fish; did you mean"):
        completion.answer(["bsh"])
    for shell in ("bash", "zsh", "fish"):
        assert "onelook completion query" in "\n".join(completion.answer([shell]))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_found_and_called_as_it_was_started(name, monkeypatch):
    assert callable(command.find(name))
    assert "onelook" not in program(name)
    monkeypatch.setattr(sys, "argv", [f"onelook {name}"])
    assert program(name) == f"onelook {name}"


def test_messages_show_the_form_that_was_typed(tmp_path):
    text = run("-m", "onelook", "train", "--help", cwd=tmp_path)
    assert text.startswith("usage: onelook train [KEY=VALUE ...]\n") and ".py" not in text
    done = ended("-m", "onelook", "eval", "nonsense", cwd=tmp_path)
    assert done.returncode == 2 and "`onelook eval --help`" in done.stderr
    assert run("train.py", "--help", cwd=tmp_path).startswith("usage: python train.py [KEY")


def test_a_run_by_onelook_is_that_of_the_script(tmp_path):
    arguments = [*TINY, *SHAPES, "dataset.train=4", "dataset.val=2", "report=false"]
    for folder, line in (("one", ["-m", "onelook", "train"]), ("other", ["train.py"])):
        run(*line, *arguments, f"hydra.run.dir={folder}", cwd=tmp_path)
    names = [sorted(path.relative_to(tmp_path / folder).as_posix()
                    for path in (tmp_path / folder).rglob("*") if "tfevents" not in path.name)
             for folder in ("one", "other")]  # fmt: skip
    assert names[0] == names[1] and "train.log" in names[0]


BUILD = "import sys; from setuptools import build_meta; build_meta.build_{}(sys.argv[1])"


def build(kind, source, out):
    line = [sys.executable, "-c", BUILD.format(kind), str(out)]
    done = subprocess.run(line, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "absent from the `packages`" not in done.stderr
    return next(out.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


def test_a_wheel_has_the_code_and_every_configuration(tmp_path):
    ignored = shutil.ignore_patterns(".*", "build", "outputs", "tests", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tmp_path / "source", ignore=ignored)
    sdist = build("sdist", tmp_path / "source", tmp_path / "sdist")
    careful: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # 3.11.4 on
    shutil.unpack_archive(sdist, tmp_path / "unpacked", **careful)
    (again,) = (tmp_path / "unpacked").iterdir()
    wheels = [build("wheel", tmp_path / "source", tmp_path / "wheel"),
              build("wheel", again, tmp_path / "wheel_of_sdist")]  # fmt: skip
    held = [{name: file.read(name) for name in file.namelist() if ".dist-info/" not in name}
            for file in map(zipfile.ZipFile, wheels)]  # fmt: skip
    assert held[0] == held[1]
    configs = {f"engine/configs/{path.relative_to(ROOT / 'configs').as_posix()}": path.read_bytes()
               for path in (ROOT / "configs").rglob("*.yaml")}  # fmt: skip
    assert {k: v for k, v in held[0].items() if k.startswith("engine/configs/")} == configs
    packages = ("onelook", "engine", "classify", "detect")
    code = {path.relative_to(ROOT).as_posix() for package in packages
            for path in (ROOT / package).rglob("*")
            if path.is_file() and path.suffix != ".pyc"}  # fmt: skip
    assert held[0].keys() == code | configs.keys()
    zipfile.ZipFile(wheels[0]).extractall(tmp_path / "installed")
    told = "from engine.config.schema import CONFIGS; print(CONFIGS)"
    script = f'"$PYTHON" -c "{told}"; "$PYTHON" -m onelook train --cfg job model=ssd_resnet34'
    out, err = bash(script, tmp_path / "wheel", PYTHONPATH=str(tmp_path / "installed"))
    assert not err and out.startswith(f"{tmp_path / 'installed/engine/configs'}\n")
    assert "_target_: detect.heads.ssd.SSD" in out
