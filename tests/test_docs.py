"""The documents: their commands compose, their links lead somewhere, both READMEs say the same."""

import re
import runpy
import shlex
import sys
from types import SimpleNamespace

import hydra
import pytest
from command_line import ROOT

import detect.kmeans  # noqa: F401  # its schema
from engine import cli
from engine.config import schema
from engine.config.arguments import check_arguments, without_sweeps
from engine.config.check import check_values

docs = SimpleNamespace(**runpy.run_path(str(ROOT / "docs/commands.py")))
DIARY = ROOT / "docs/diary.md"  # its commands are as of its commits
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
         for page in docs.pages() if page != DIARY}  # fmt: skip
LINES = {name: docs.commands(text) for name, text in TEXTS.items()}
OURS = sorted({line for lines in LINES.values() for line in lines if docs.ours(line)})
PAGES = [LINES[name] for name in LINES if name not in ("docs/results.md", "docs/zoo.md")]
ROWS = set(OURS) - {line for lines in PAGES for line in lines}  # of measured runs
MADE = [line for line in OURS if "hydra.searchpath=" in line or "$" in re.sub(r"^\S+ ", "", line)]
SHELL = {  # what a reader has besides
    "bash", "cat", "cd", "curl", "echo", "export", "for", "git", "grep", "head", "make", "mkdir",
    "pip", "source", "tail", "tensorboard", "MODEL=model.onnx",
}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=pytest.mark.slow if line in ROWS else ())
     for line in sorted(set(OURS) - set(MADE))],
)  # fmt: skip
def test_a_command_composes(line, monkeypatch, tmp_path):
    if "hydra.run.dir=" not in line:  # there is no newest run here
        line = line.replace("resume=auto", "resume=RUN/checkpoints/last.pt")
    words = shlex.split(line)
    script = next(i for i, word in enumerate(words) if re.match(r"\w+\.py$|engine\.|detect\.", word)
                  or words[i - 1] == "onelook")  # fmt: skip
    name = words[script].removesuffix(".py").rpartition(".")[2]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", words[script:])
    config_name = cli.configuration(name)
    given = check_arguments(name, config_name)
    if given.help:
        return
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        check_values(hydra.compose(config_name, without_sweeps(given)))


def test_every_other_command_is_one_that_a_reader_has():
    manual = [lines for name, lines in LINES.items() if "course/" not in name]  # that is executed
    firsts = {line.split()[0] for lines in manual for line in lines if not docs.ours(line)}
    assert firsts <= SHELL


def test_both_readmes_have_the_same_commands_and_the_same_table_of_results():
    english, chinese = (LINES[name] for name in ("README.md", "README.zh.md"))
    assert english == chinese and len(english) > 15
    assert numbers(TEXTS["README.md"]) == numbers(TEXTS["README.zh.md"])


def numbers(text):
    """What a page has in digits, in its order."""
    return re.findall(r"\d+(?:\.\d+)?|\.\d+", text)


@pytest.mark.parametrize("name", TEXTS)
def test_links_and_images_are_there(name):
    folder = (ROOT / name).parent
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", TEXTS[name])
    missing = [link for link in links if "://" not in link and not (folder / link).exists()]
    assert not missing


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_command_printed_was_captured(name):
    for block in docs.blocks(TEXTS[name]):
        assert block.shown is None or block.shown.strip(), block.script
        assert all((ROOT / name).parent.joinpath(link).is_file() for link in block.images)


def test_every_image_is_in_a_page():
    shown = {page.parent.joinpath(link).resolve() for page in docs.pages() for link in
             re.findall(r"\]\(([^)\s]+\.(?:png|jpg))\)", page.read_text("utf-8"))}  # fmt: skip
    files = {path for kind in ("*.png", "*.jpg") for path in (ROOT / "docs").rglob(kind)}
    assert files - shown - {ROOT / "docs/cat.jpg"} == set()


def test_the_parser_of_pages_finds_commands_output_and_images():
    page = (
        "Say `train.py model=a\nb=2` or `train.py`.\n```sh\n# no\npython -m engine.x a=1 \\\n  b=2 "
        "| tail -n 2  # last\ncat > f <<'END'\npython eval.py\nEND\n```\n\n```text\nout\n```\n\n"
        "<!-- from x.png -->\n![x](images/x.png)\n"
    )
    (block,) = docs.blocks(page)
    assert block.commands == ["python -m engine.x a=1 b=2", "tail -n 2", "cat"]
    assert block.shown == "out\n" and block.images == {"images/x.png": "x.png"}
    assert docs.commands(page)[-1] == "python train.py model=a b=2"
    assert page[slice(*block.span)] == "out\n"
    assert docs.blocks("```sh\npython eval.py checkpoint=RUN/a.pt\n```\n")[0].placeholders == {
        "RUN"
    }


def test_capturing_a_page_writes_what_its_commands_print(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\necho ours 1\npython eval.py --version 2>&1 || true\n```\n```text\nold\n```\n"
    )
    assert docs.capture(page, {}, check=True)
    docs.capture(page, {})
    assert "ours 1\n" in page.read_text() and "old" not in page.read_text()
    assert not docs.capture(page, {}, check=True)
