"""`engine.check convert=coco`, read again by dataset=coco, has the records that it was made of."""

import json

import hydra
import numpy as np
import pytest
import sets

from detect.datasets.coco import COCO
from engine.builders.splits import open_split
from engine.check.report import write_report
from engine.config import tools  # noqa: F401  # registers the schemas
from engine.config.schema import CONFIGS

RNG = np.random.default_rng(8)
SPLITS = {"train": [f"t{i}" for i in range(6)], "val": ["v0", "v1"], "test": ["e0"]}


def box():
    """Corners with fractions that no power of two has, above the border too, some without area."""
    x, y, w, h = (RNG.integers(-20, 300, 4) / 7).tolist()
    return x, y, x + abs(w), y + abs(h)


TRUTH = {
    name: [(sets.CLASSES[RNG.integers(3)], *box()) for _ in range(i % 4)]
    for i, name in enumerate(name for names in SPLITS.values() for name in names)
}
TRUTH["v0"] = [("bee", -100.1, 2.3, 0.3, 47.9)]  # its width has fewer bits than its right side
TRUTH["v1"] = [("cat", 5.1, 5, 5.1, 9.3), ("ant", 1, 1, 64, 48)]  # the first has no area


def write_voc(root):
    sets.write_voc(root, SPLITS, TRUTH)
    file = root / "Annotations/t2.xml"
    name, hard = "<object><name>", "<object><difficult>1</difficult><name>"
    file.write_text(file.read_text().replace(name, hard, 1))


def write_yolo(root):
    sets.write_yolo(root, SPLITS, TRUTH)


def write_cvat(root):
    sets.write_cvat(root, SPLITS, TRUTH)


def write_csv(root):
    sets.write_csv(root, SPLITS, TRUTH)


WRITERS = {"voc": write_voc, "yolo": write_yolo, "cvat": write_cvat, "csv": write_csv}


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_as_coco_has_the_same_records_in_the_same_splits(tmp_path, name):
    root, run = tmp_path / "set", tmp_path / "run"
    WRITERS[name](root)
    run.mkdir()
    asked = f"dataset={name}", f"dataset.root={root}", "convert=coco", "loader.workers=0"
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("check", overrides=list(asked))
    write_report(cfg, run)
    assert len(list((run / "annotations").iterdir())) == len(SPLITS)
    ignored = 0
    for split, names in SPLITS.items():
        before = open_split(cfg, split, "fail")
        file = run / f"annotations/instances_{split}.json"
        folder = json.loads(file.read_text())["info"]["images"]
        after = COCO(root=str(run), split=split, images=folder)
        assert len(before) == len(after) == len(names) and before.classes == after.classes
        for i in range(len(before)):
            one, other = before.record(i), after.record(i)
            assert one.path == other.path and one.size in (other.size, None)
            for key in ("labels", "boxes", "ignore"):
                a, b = getattr(one, key), getattr(other, key)
                assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), (one, other)
            ignored += int(one.ignore.sum())
    assert ignored == 1 + (name == "voc")
