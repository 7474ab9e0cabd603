"""Every file is written whole or not at all, and all code writes through one module."""

import ast
import errno
import os
import stat

import layers
import pytest
from layers import ROOT

from engine.errors import UserError
from engine.whole_file import NotWritten, WholeText, remove_unfinished, whole_file, write_whole

FULL = OSError(errno.ENOSPC, "No space left on device")
WRITES = {"write_text", "write_bytes", "savefig", "imwrite", "VideoWriter", "tofile", "to_csv"}
MODES = set("wax+")
# What writes otherwise, and why that is right.
EXCEPTIONS = {
    "engine/whole_file.py",  # this is the one
    "engine/output/events.py",  # appends whole records
    "engine/output/video.py",  # under a temporary name, OpenCV by path
    "engine/output/run_folder.py",  # the tail of a log that is open for appending
    "engine/sweep/process.py",  # what a trial prints, which is appended as it comes
    "engine/sweep/storage.py",  # the end of Optuna's journal, under Optuna's lock
    "engine/lr_find/curve.py",  # savefig into memory
    "detect/bench/data.py", "detect/bench/index.py",  # for a measurement, in scratch
    "detect/bench/score.py", "engine/bench/scaling.py",
}  # fmt: skip


def refuse(*_):
    raise FULL


def test_text_and_bytes_are_there_and_nothing_else(tmp_path):
    write_whole(tmp_path / "new/a.txt", "ä\ud800\r\n")
    write_whole(tmp_path / "new/b.bin", b"\x00\xff")
    assert (tmp_path / "new/a.txt").read_bytes() == b"\xc3\xa4\\ud800\r\n"
    assert (tmp_path / "new/b.bin").read_bytes() == b"\x00\xff"
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.txt", "b.bin"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new/a.txt").stat().st_mode) == 0o666 & ~mask  # not 0600


@pytest.mark.parametrize("fails", ["replace", "fsync"])
def test_a_full_disk_is_named_and_the_old_file_stays(fails, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    monkeypatch.setattr(os, fails, refuse)
    with (
        pytest.raises(
            NotWritten, match=r"cannot write .*a\.txt: No space left on device"
        ) as caught,
        whole_file(path, durable=True) as file,
    ):
        file.write("new")
    assert isinstance(caught.value, UserError) and caught.value.reason == "No space left on device"
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("of an image"), FULL,
                                   FileNotFoundError(2, "No such file", "image.jpg")])  # fmt: skip
def test_an_error_between_two_parts_leaves_the_old_file(error, tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "old")
    with pytest.raises(BaseException) as caught, WholeText(path) as text:
        text.file.write("half")
        raise error
    # only the file system's own word on this file is about this file
    assert isinstance(caught.value, NotWritten) if error is FULL else caught.value is error
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "last.pt"
    with whole_file(path) as one, whole_file(path) as other:
        one.write("1" * 9)
        other.write("2" * 99)
    assert path.read_text() in ("1" * 9, "2" * 99)


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path):
    write_whole(tmp_path / "last.pt", "whole")
    (tmp_path / ".onelook-0123.tmp").write_text("half")
    remove_unfinished(tmp_path)
    remove_unfinished(tmp_path / "no_such_folder")
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def _is_raw_write(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    values = [*node.args, *(keyword.value for keyword in node.keywords)]
    modes = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    if name == "open" and any(len(m) <= 3 and MODES & set(m) for m in modes):
        return True
    owner = ast.unparse(node.func)
    return name in WRITES or owner in ("OmegaConf.save", "SummaryWriter", "json.dump", "np.save")


COMMANDS = [ROOT / name for name in ("train.py", "eval.py", "predict.py")]
SOURCES = {p.relative_to(ROOT).as_posix(): p for p in layers.sources(*layers.PACKAGES) + COMMANDS}


@pytest.mark.parametrize("name", SOURCES)
def test_no_other_module_writes_files(name: str):
    if name not in EXCEPTIONS:
        tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"))
        assert [ast.unparse(node) for node in ast.walk(tree) if _is_raw_write(node)] == []


@pytest.mark.parametrize(
    ("line", "raw"),
    [
        ("open(path, 'w')", True),
        ("path.open(mode='ab')", True),
        ("file.write_text('x')", True),
        ("OmegaConf.save(cfg, path)", True),
        ("open(path)", False),
        ("open(path, 'rb')", False),
        ("write_whole(path, 'w')", False),
    ],
)
def test_a_write_is_seen(line, raw):
    assert any(map(_is_raw_write, ast.walk(ast.parse(line)))) is raw
