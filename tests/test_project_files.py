"""The files around the code agree with it and with each other."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
YAMLS = sorted(
    [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]
)
PACKAGES = ("onelook", "engine", "classify", "detect")


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def paths_named(text):
    """Paths in backticks, without those that name a file to be written (NAME)."""
    words = [word for span in re.findall(r"`([^`\n]+)`", text) for word in span.split()]
    words = [word.split("::")[0] for word in words if not re.search(r"[=<>*(\[]|://", word)]
    paths = [w for w in words if "/" in w or w.endswith((".py", ".md", ".yaml", ".toml"))]
    return sorted({p.rpartition("/")[0] if "NAME" in p else p for p in paths})


GUIDES = ("CONTRIBUTING.md", "docs/architecture.md")
PATHS = [(guide, path) for guide in GUIDES
         for path in paths_named((ROOT / guide).read_text(encoding="utf-8"))]  # fmt: skip


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.name)
def test_yaml_files_parse(path):
    assert isinstance(load(path), dict)


def test_there_are_yaml_files():
    assert len(YAMLS) >= 6


def test_the_citation_is_whole_and_of_this_version():
    citation, meta = load(ROOT / "CITATION.cff"), project()["project"]
    required = {"cff-version", "message", "title", "authors"}
    assert required | {"type", "version", "license", "abstract"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["authors"] == [{"name": "The onelook authors"}]
    assert citation["title"] == meta["name"] and citation["license"] == meta["license"]
    assert citation["version"] == meta["version"]


def test_the_workflow_runs_what_ci_runs():
    (command,) = re.findall(r"^exec (.+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    job = load(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert runs == [f"{command} PYTHON=python"]


def test_the_workflow_starts_at_the_oldest_python():
    job = load(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]
    oldest = job["strategy"]["matrix"]["python"][0]
    assert project()["project"]["requires-python"] == f">={oldest}"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_ships_its_marker_of_types_and_what_is_no_python(package):
    assert (ROOT / package / "py.typed").is_file()
    data = project()["tool"]["setuptools"]["package-data"]
    assert "py.typed" in data[package]
    others = {path.relative_to(ROOT / package).as_posix() for path in (ROOT / package).rglob("*")
              if path.is_file() and path.suffix not in (".py", ".pyc")}  # fmt: skip
    assert others == set(data[package])  # the style and the script of report.html


@pytest.mark.parametrize(("guide", "path"), PATHS)
def test_paths_in_guides_exist(guide, path):
    assert (ROOT / path).exists()


def test_guides_name_paths():
    assert {guide for guide, _ in PATHS} == set(GUIDES) and len(PATHS) > 60
    text = "`make test` `a/b.py` `c/NAME.py` `pytest d/e.py::f` `loss/box=giou` `g.md` `<h>/i`"
    assert paths_named(text) == ["a/b.py", "c", "d/e.py", "g.md"]
