"""The commands of the documents run: those of a page with output as they are, the rest in brief."""

import re
import runpy
from types import SimpleNamespace

import pytest
from command_line import ROOT

docs = SimpleNamespace(**runpy.run_path(str(ROOT / "docs/commands.py")))
PAGES = {page.relative_to(ROOT).as_posix(): page for page in docs.pages()
         if page.name not in ("README.zh.md", "diary.md", "results.md", "zoo.md")}  # fmt: skip
CAPTURED = [name for name, page in PAGES.items()
            if any(block.shown for block in docs.blocks(page.read_text("utf-8")))]  # fmt: skip
LACKING = r"=\S+\.(?:jpg|weights|onnx|json|pt)\b|=(?= |$)|device=cuda|--help"  # the reader's files


def brief(line: str) -> str:
    """The command with as little to do as it takes; "" for one that needs what is not here."""
    without = line.replace("docs/cat.jpg", "")
    if re.search(LACKING, without) or docs.PLACEHOLDER.search(re.sub(r"^[A-Z_]+=\S+", "", without)):
        return ""
    if "train.py" in line and "trainer=" not in line and "resume=" not in line:
        line += " trainer=debug/fast"
    if "sweeper=study" in line:
        line = re.sub(r"trials=\d+", "trials=2", line) + " hydra.sweeper.startup=1"
    return f"{line} repeats=1" if "engine.bench" in line and "repeats=" not in line else line


BRIEF = {name: lines for name, page in PAGES.items() if name not in CAPTURED
         if (lines := [short for line in docs.commands(page.read_text("utf-8"))
                       if docs.ours(line) and (short := brief(line))])}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CAPTURED)
def test_a_page_prints_what_it_shows(name):
    assert docs.capture(PAGES[name], {}, check=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", BRIEF)
def test_the_commands_of_a_page_run_in_its_order(name):
    with docs.scratch() as folder:
        for line in BRIEF[name]:
            docs.output(line, {}, folder)


def test_there_are_commands_that_run():
    assert len(CAPTURED) >= 14 and sum(map(len, BRIEF.values())) >= 15
    assert brief("python eval.py checkpoint=RUN/a.pt") == brief("python predict.py a=b.jpg") == ""
    assert brief("python train.py a=1") == "python train.py a=1 trainer=debug/fast"
