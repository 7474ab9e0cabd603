"""docs/results.jsonl: whole rows, and the pages that docs/results.py makes of them."""

import re
import runpy
from datetime import date
from itertools import pairwise
from types import SimpleNamespace

import pytest
from command_line import ROOT

made = SimpleNamespace(**runpy.run_path(str(ROOT / "docs/results.py")))
docs = SimpleNamespace(**runpy.run_path(str(ROOT / "docs/commands.py")))
ROWS = made.read()
PAGES = {name: (ROOT / "docs" / name).read_text("utf-8") for name in ("results.md", "zoo.md")}
COMMANDS = [row["command"] for row in ROWS if row["command"]]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_its_rows_make(name):
    assert PAGES[name] == made.pages(ROWS)[name], "run: python docs/results.py"
    assert "Made by `python docs/results.py` from [results.jsonl]" in PAGES[name].split("\n\n")[1]


def test_every_row_is_whole():
    for row in ROWS:
        assert tuple(row) == made.FIELDS
        assert all(row[name] for name in ("data", "task", "model", "metric")), row
        assert date(2026, 11, 22) <= date.fromisoformat(row["date"]) <= date.today()
        assert isinstance(row["value"], float) and 0 <= row["value"] <= 1
        assert row["minutes"] is None or 0 < row["minutes"] < 24 * 60
        assert row["split"] in made.HELD_OUT
        assert re.match(r"[0-9a-f]{7}\b", row["commit"])
        assert row["command"] or row["note"], row  # what was run
        assert "" not in row.values()
    assert len({str(row) for row in ROWS}) == len(ROWS) > 50


def test_every_command_is_one_that_the_tests_of_pages_compose_or_a_script_that_is_there():
    listed = docs.commands(PAGES["results.md"])
    for command in COMMANDS:
        if docs.ours(command):
            whole = command if "python " in command else f"python {command}"
            assert whole in listed, command
        else:
            script = re.match(r"make demo$|python (tests/\w+\.py)( |$)", command)
            assert script and (not script[1] or (ROOT / script[1]).is_file()), command


def test_tables_are_best_first_and_have_every_row():
    tables = [re.findall(r"^\| (\.\d+) \|", part, re.MULTILINE)
              for part in re.split(r"\n\n+", PAGES["results.md"])]  # fmt: skip
    for numbers in tables:
        assert all(float(a) >= float(b) for a, b in pairwise(numbers))
    assert sum(map(len, tables)) == len(ROWS)


def test_a_cell_keeps_bars_and_stars_and_a_number_its_places():
    row = dict.fromkeys(made.FIELDS) | {"data": "d", "task": "t", "metric": "m", "value": 0.5}
    row |= {"model": "a|b * c", "command": "train.py a=b|c*", "note": "2 * 3, `4 * 5`"}
    table = made.results([row]).rpartition("\n\n")[2]
    assert table.splitlines()[2] == (r"| .500 | a\|b \* c | `train.py a=b\|c*` | 2 \* 3, `4 * 5` |")
    assert [made.number(each) for each in (0.88, 0.9219, 1.0)] == [".880", ".9219", "1.000"]


def test_the_zoo_has_the_best_run_of_each_model_by_the_split_that_says_most():
    base = dict.fromkeys(made.FIELDS) | {"data": "d", "metric": "m", "model": "a"}
    runs = [("train.py a=1", "val", 0.9), ("train.py a=2", "test", 0.7),
            ("train.py a=3", "test", 0.8), (None, "test", 0.99), ("eval.py a=4", "test", 0.95),
            ("python tests/peer.py", "test", 0.96)]  # fmt: skip
    rows = [base | {"command": c, "split": s, "value": v} for c, s, v in runs]
    lines = made.zoo(rows).rpartition("\n\n")[2].splitlines()
    assert lines[2:] == ["| a |  | m .800 on test | `train.py a=3` |"]
