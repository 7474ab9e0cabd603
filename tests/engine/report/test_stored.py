"""A folder of a run that is damaged or a stranger's is refused by its file, in one line."""

import os
import tracemalloc

import pytest

from engine.errors import UserError
from engine.report import folders, stored

GOOD = {
    "metrics.json": '{"primary_name": "mAP", "primary_value": null, "metrics": {"mAP": 0.5}, '
    '"protocol": "VOC", "dataset": "val", "split": "val", "images": 6, "seconds": 1.0}',
    "predictions.json": "[]",
    "config.yaml": "dataset: {_target_: detect.datasets.shapes.Shapes}\n"
    "metric: {_target_: detect.metrics.voc_map.VOCMap}\n",
    "data_report.json": '{"val": [{"file": "a", "row": 1, "reason": "b", "action": "c"}]}',
    "metrics.csv": "epoch,lr,val/mAP\n1,0.5,\n2,0.25,0.125\n",
}
READERS = {
    "config.yaml": stored.config,
    "metrics.json": lambda path: stored.results(path.parent),
    "data_report.json": stored.defects,
    "metrics.csv": stored.columns,
}
TIMES_9 = ("b: &b [{}]\n", "c: &c [{}]\n", "d: &d [{}]\n", "e: &e [{}]\n", "f: &f [{}]\n")
BOMB = [row.format(", ".join([f"*{one}"] * 9)) for one, row in zip("abcde", TIMES_9, strict=True)]
ALIASES = f"a: &a [x]\n{''.join(BOMB)}"
WRONG = [
    *((name, text) for name in READERS if name != "metrics.csv" for text in ("5", "[", "[" * 5000)),
    *((name, b"\xff\xfe\0") for name in READERS),
    *(("config.yaml", text) for text in (
        "", "a: !!python/object/apply:os.system ['touch pwned']", "a: !!python/name:os.system",
        ALIASES, "a: &a {b: *a}", "a: \0", "a:\n\t- b", "? [a, b]\n: 1", "a: !my 1")),
    *(("metrics.json", GOOD["metrics.json"].replace(one, other)) for one, other in (
        ('"primary_name"', '"name"'), ('"VOC"', "5"), ("0.5", '"x"'), ("0.5", "NaN"),
        ("1.0", "Infinity"), ("1.0", "null"), ('{"mAP": 0.5}', "[0.5]"),
        ('"val", "im', '[], "im'))),
    *(("data_report.json", text) for text in ('{"val": [1]}', '{"val": [{"file": "a"}]}')),
    *(("metrics.csv", text) for text in ("epoch,lr\n1,x\n", "lr\n1\n", "epoch,lr\n,1\n")),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name, text in GOOD.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_was_written_is_read(folder):
    assert stored.results(folder)["metrics"] == {"mAP": 0.5}
    assert stored.config(folder / "config.yaml").keys() == {"dataset", "metric"}
    assert stored.defects(folder / "data_report.json")["val"][0]["row"] == 1
    assert stored.columns(folder / "metrics.csv") == {
        "epoch": ([1, 2], [1, 2]), "lr": ([1, 2], [0.5, 0.25]), "val/mAP": ([2], [0.125])
    }  # fmt: skip


@pytest.mark.parametrize(("name", "text"), WRONG, ids=lambda value: str(value)[:40])
def test_what_was_not_written_so_is_one_line(name, text, folder, monkeypatch):
    monkeypatch.chdir(folder)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    tracemalloc.start()
    with pytest.raises(UserError) as refused:
        READERS[name](path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    message = str(refused.value)
    assert message.startswith(f"{path}: got ") and "\n" not in message and len(message) < 500
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize("name", READERS)
def test_no_pipe_is_waited_for(name, folder):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(UserError, match="got a pipe"):
        READERS[name](folder / name)


PARTS = ["a: 1", "dataset: 5\nmetric: 5", *(GOOD["config.yaml"].replace(*change) for change in (
    ("{_target_", "{size: 2020-01-01, _target_"), ("Shapes}", "Shapes, a: '${b}'}"),
    ("detect.datasets.shapes.Shapes", "os.system")))]  # fmt: skip


@pytest.mark.parametrize("config", PARTS)
def test_a_folders_parts_are_checked_before_they_are_made(config, folder):
    (folder / "config.yaml").write_text(config)
    with pytest.raises(UserError):
        folders.read(str(folder), None)
