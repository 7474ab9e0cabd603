"""What reaches a terminal or the log shows control characters, and does not send them."""

import ast
import fcntl
import io
import logging
import os
import pty
import struct
import sys
import termios
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import TINY, ended, run

from engine.console import (
    TerminalFormatter,
    duration,
    echo,
    error,
    escape_unencodable,
    format_table,
    info,
    printable,
    show,
    wrap,
)

ROOT = Path(__file__).resolve().parents[2]
ODD = "\x1b[31mred\nforged: line\x9b\u202e\udcff"
SHOWN = r"\x1b[31mred\nforged: line\x9b\u202e\udcff"
FORBIDDEN = {*map(chr, range(32)), "\x7f", *map(chr, range(0x80, 0xA0))} - {"\n"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (ODD, SHOWN),
        ("\r\t\0\x7f\x85\u2028", r"\r\t\x00\x7f\x85\u2028"),
        ("\ud83d", r"\ud83d"),  # half of a pair
        (r"C:\new\x1b", r"C:\new\x1b"),  # backslashes are text
        ("Zürich 北京 👩‍💻 می‌خواهم\xa0\u3000", "Zürich 北京 👩‍💻 می‌خواهم\xa0\u3000"),
    ],
)
def test_a_name_is_one_line_of_what_can_be_shown(text, shown):
    assert printable(text) == shown


def test_messages_keep_their_own_lines_alone(capsys, caplog):
    caplog.set_level(logging.INFO)
    info(f"{ODD}: left out", "second")
    echo(ODD, "second")
    error(f"error: {ODD}")
    assert caplog.messages == [f"{SHOWN}: left out\nsecond"]
    assert capsys.readouterr() == (f"{SHOWN}\nsecond\n", f"error: {SHOWN}\n")


def test_a_table_lines_up_around_what_is_shown():
    assert format_table([{"name": ODD, "n": 1}]) == [  # SHOWN has 41 characters
        " " * (41 - 4) + "name  n",
        f"{SHOWN}  1",
    ]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_terminal_that_lacks_a_character_gets_its_number(stream, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, stream, terminal)
    escape_unencodable()
    {"stdout": echo, "stderr": error}[stream]("Zürich 北")
    terminal.flush()
    assert terminal.buffer.getvalue() == rb"Z\xfcrich \u5317" + b"\n"


def on_terminal(call, *arguments, **environment):
    """What a call sends to standard output and error that are a terminal of 44 columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 44, 0, 0))
    with pytest.MonkeyPatch.context() as patch, os.fdopen(its, "wb", 0) as file:
        stream = io.TextIOWrapper(file, write_through=True)
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", stream)
        for name, value in {"TERM": "xterm", "NO_COLOR": "", **environment}.items():
            patch.setenv(name, value)
        call(*arguments)
        stream.write("end")
        got = b""
        while not got.endswith(b"end"):
            got += os.read(ours, 65536)
    os.close(ours)
    return got[:-3].decode().replace("\r\n", "\n")


LINE = "epoch 3 of 40: train class 0.51 box 0.22, mAP 0.4123 (best 0.4123), after 35 s"
LINES = ["epoch 3 of 40: train class 0.51 box 0.22,", "  mAP 0.4123 (best 0.4123), after 35 s"]


def test_a_terminal_gets_lines_of_its_width_with_the_strong_parts_in_bold():
    assert on_terminal(partial(show, LINE, strong=["epoch 3", "0.22, mAP"])) == (
        "\x1b[1mepoch 3\x1b[0m of 40: train class 0.51 box \x1b[1m0.22,\n  mAP\x1b[0m 0.4123 "
        "(best 0.4123), after 35 s\n"
    )
    assert on_terminal(error, "error: no") == "\x1b[1;31merror:\x1b[0m no\n"
    assert on_terminal(echo, LINE) == f"{LINE}\n"  # JSON must stay as it is


@pytest.mark.parametrize("setting", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colours_still_gets_lines_of_its_width(setting):
    shown = on_terminal(partial(show, LINE, strong=["epoch"]), **setting)
    assert shown == "\n".join(LINES) + "\n"


def test_a_name_sends_no_escape_code_to_a_terminal_either():
    assert on_terminal(partial(show, ODD, strong=[ODD])) == f"\x1b[1m{SHOWN}\x1b[0m\n"


def test_a_log_and_a_pipe_get_whole_plain_lines(caplog, capsys):
    caplog.set_level(logging.INFO)
    info(LINE, strong=["epoch"])
    show(LINE, strong=["epoch"])
    assert caplog.messages == [LINE] and capsys.readouterr().out == f"{LINE}\n"
    terminal = TerminalFormatter("%(message)s")
    assert terminal.format(caplog.records[0]) == LINE
    shown = on_terminal(lambda: print(terminal.format(caplog.records[0])))
    assert shown == "\n".join(LINES).replace("epoch", "\x1b[1mepoch\x1b[0m") + "\n"
    assert logging.Formatter("%(message)s").format(caplog.records[0]) == LINE  # of the file


@pytest.mark.parametrize(
    ("line", "width", "lines"),
    [
        ("short", 5, ["short"]),
        ("a path /of/many-parts/in/one", 8, ["a path", "  /of/many-parts/in/one"]),  # stays whole
        ("  1  two  three", 9, ["  1  two", "    three"]),  # as far in, and two more
        ("Zürich 北京 x", 9, ["Zürich 北京", "  x"]),
    ],
)
def test_a_line_breaks_between_words_and_loses_none(line, width, lines):
    assert wrap(line, width).split("\n") == lines
    assert wrap(line, width).split() == line.split()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (5940, "99 min"), (11520, "3.2 h"),
     (216000, "2.5 days")],
)  # fmt: skip
def test_a_time_in_its_largest_unit(seconds, text):
    assert duration(seconds) == text


def test_nothing_prints_beside_the_console():
    files = [p for room in ("engine", "classify", "detect") for p in (ROOT / room).rglob("*.py")]
    assert len(files) > 100
    for file in {*files, *ROOT.glob("*.py")} - {ROOT / "engine/console.py"}:
        for node in ast.walk(ast.parse(file.read_text())):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert name not in ("print", "sys.stdout.write", "sys.stderr.write"), file
            assert not name.startswith("traceback.print"), file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes with odd names, each with images with odd names, one of them no image."""
    made = tmp_path_factory.mktemp("names")
    for split in ("train", "val"):
        for name in (ODD, f"b{ODD}"):
            (made / "set" / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = np.random.default_rng(number).integers(0, 255, (48, 48, 3), np.uint8)
                cv2.imwrite(str(made / "one.png"), pixels)
                target = made / "set" / split / name / f"{number}{split}{ODD}.png"
                target.write_bytes((made / "one.png").read_bytes())
    (made / "set/train" / ODD / f"not{ODD}.png").write_bytes(b"no image")
    return made


def assert_harmless(text: str) -> None:
    assert not FORBIDDEN & set(text), text
    assert SHOWN in text
    assert not any(line.startswith("forged") for line in text.splitlines())


def test_the_commands_show_odd_names_of_files_and_classes(folder):
    data = ["dataset=image_folder", "dataset.root=set", "dataset.on_error=skip"]
    out = run("train.py", "model=resnet18", *TINY, *data, "loss=cross_entropy",
              "hydra.run.dir=run", "image_size=32", cwd=folder)  # fmt: skip
    assert_harmless(out)
    assert f"classes: {SHOWN} 3, b{SHOWN} 2" in out or f"classes: {SHOWN} 2" in out
    assert_harmless((folder / "run/train.log").read_text())
    checkpoint = "checkpoint=run/checkpoints/last.pt"
    assert_harmless(run("predict.py", checkpoint, "source=set/val", "show=0", cwd=folder))
    done = ended("-m", "engine.check", *data[:2], "hydra.run.dir=check", cwd=folder)
    assert_harmless(done.stdout + done.stderr)


def test_an_error_names_an_odd_file_in_one_line(folder):
    source = next((folder / "set/train" / ODD).glob("not*")).relative_to(folder)
    done = ended("predict.py", "checkpoint=nope.pt", f"source='{source}'", cwd=folder)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    (folder / f"{ODD}.pt").write_bytes(b"no checkpoint")
    done = ended("eval.py", f"checkpoint='{ODD}.pt'", cwd=folder)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert_harmless(done.stderr)


@pytest.mark.parametrize("write", [echo, show])
def test_a_reader_that_has_gone_is_no_error(write, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        write("a" * 100_000)
        write("b")  # a command goes on
        monkeypatch.undo()
