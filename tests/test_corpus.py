"""Every bad input has its verdict; none crashes, hangs, fills the memory or changes a byte."""

import functools
import json
import re
import signal
from pathlib import Path

import hydra
import pytest
import torch
from command_line import TINY, run
from corpus import (
    CLASSES,
    COCO,
    CSV,
    FOLDER,
    GOOD,
    VOC,
    YOLO,
    good_coco,
    good_csv,
    good_folder,
    good_voc,
    good_yolo,
    tree_hash,
)

from engine.builders import parts
from engine.builders.splits import open_split
from engine.check.report import write_report
from engine.config.schema import CONFIGS
from engine.errors import UserError

SECONDS, MEGABYTES = 20, 200
CHOSEN = f"dataset.classes=[{','.join(CLASSES)}]"
# The good set, its objects to train, the cases, and what else to say on the command line.
FORMATS = {
    "voc": (good_voc, 8, VOC, CHOSEN),
    "yolo": (good_yolo, 8, YOLO, "seed=0"),
    "csv": (good_csv, 8, CSV, CHOSEN),
    "image_folder": (good_folder, 4, FOLDER, "seed=0"),
}
ROWS = [
    pytest.param(name, case, id=f"{name}-{case.name}".encode("ascii", "replace").decode())
    for name, (_, _, cases, _) in FORMATS.items()
    for case in cases
]


@functools.cache
def composed(name):
    asked = [f"dataset={name}", FORMATS[name][3], "loader.workers=0", "image_size=32"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("check", overrides=asked)


def configured(name, root, on_error="fail"):
    cfg = composed(name).copy()
    cfg.dataset.root, cfg.dataset.on_error = str(root), on_error
    return cfg


def peak() -> float:
    """Megabytes that the process had at most since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.fixture(autouse=True)
def watched():
    """A time limit on every case."""

    def stop(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)


def report_of(cfg, folder):
    """Rows of the report, its facts, and the message at the end, if it is one of failure."""
    folder.mkdir(exist_ok=True)
    try:
        write_report(cfg, folder)
        error = ""
    except UserError as caught:
        error = str(caught)
    found = json.loads((folder / "data_report.json").read_text())
    facts, _ = found.pop("statistics"), found.pop("stops")
    return [row for rows in found.values() for row in rows], facts, error


def test_there_are_enough():
    assert len(ROWS) >= 60


@pytest.mark.parametrize(("name", "case"), ROWS)
def test_each_has_its_verdict_and_nothing_else_happens(tmp_path, name, case):
    root = tmp_path / "set"
    root.mkdir()
    FORMATS[name][0](root)
    case.add(root)
    before = tree_hash(root)
    forget_peak()
    start = peak()
    rows, facts, error = report_of(configured(name, root), tmp_path / "run")
    assert peak() - start < MEGABYTES
    assert tree_hash(root) == before
    if case.message:
        (row,) = [row for row in rows if re.search(case.message, row["reason"])]
        assert row["action"] == case.action
        assert error == "" or case.action in ("left out", "stops")
    else:
        assert rows == [] and error == ""
    good = (len(GOOD) + case.images, FORMATS[name][1] + case.objects)
    assert (facts["train"]["images"], facts["train"]["objects"]) == good
    trained = "train" if case.action != "stops" else None
    if trained:
        assert_trains_on(configured(name, root, "skip"), good)


def assert_trains_on(cfg, good):
    """With on_error=skip an epoch has just the good images and rows."""
    data = open_split(cfg, "train", "skip")
    loader = parts.loader(cfg, data, torch.device("cpu"))
    images = objects = 0
    for batch in loader:
        images += len(batch.meta)
        objects += sum(len(data.record(meta.index).labels) for meta in batch.meta)
    assert (images, objects) == good


@pytest.mark.parametrize("case", COCO, ids=[case.name for case in COCO])
def test_each_coco_file_has_its_verdict(tmp_path, case):
    root = tmp_path / "set"
    root.mkdir()
    good_coco(root)
    case.add(root)
    before = tree_hash(root)
    cfg = composed("voc").copy()
    cfg.dataset = {
        "_target_": "detect.datasets.coco.COCO",
        "annotations": f"{root}/truth.json",
        "images": f"{root}/images",
    }
    cfg.split = "train"
    (tmp_path / "run").mkdir()
    said = []
    try:
        write_report(cfg, tmp_path / "run")
    except UserError as error:
        said.append(str(error))
    if (tmp_path / "run/data_report.json").exists():
        said += [
            row["reason"]
            for row in json.loads((tmp_path / "run/data_report.json").read_text())["train"]
        ]
    assert any(re.search(case.message, text) for text in said), said
    assert tree_hash(root) == before


@pytest.mark.slow
def test_training_that_skips_ends_with_just_the_good_rows_of_the_whole_corpus(tmp_path):
    signal.alarm(300)
    root = tmp_path / "set"
    good_voc(root)
    for case in VOC:
        case.add(root)
    before = tree_hash(root)
    asked = f"dataset=voc dataset.root={root} dataset.on_error=skip dataset.classes={CLASSES}"
    out = run(
        "train.py", *TINY, *asked.replace(", ", ",").split(), "hydra.run.dir=run", cwd=tmp_path
    )
    rows = json.loads((tmp_path / "run/data_report.json").read_text())["train"]
    left = [row["reason"] for row in rows if row["action"] == "left out"]
    cases = [case for case in VOC if case.action == "left out"]
    assert len(left) == len(cases)
    assert all(any(re.search(case.message, reason) for reason in left) for case in cases)
    assert "left out" in out and "more, all in" in out
    assert (tmp_path / "run/checkpoints/last.pt").is_file() and tree_hash(root) == before
    rows, facts, _ = report_of(configured("voc", root, "skip"), tmp_path / "check")
    good = len(GOOD) + sum(case.images for case in VOC), 8 + sum(case.objects for case in VOC)
    assert (facts["train"]["images"], facts["train"]["objects"]) == good
