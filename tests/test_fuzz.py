"""Whatever a user writes on the command line ends with exit code 0, or 2 and one line."""

from pathlib import Path

import cv2
import fuzz
import pytest
from command_line import run

from detect.datasets.shapes import Shapes


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A checkpoint of a small network after an epoch on four images."""
    folder = tmp_path_factory.mktemp("fuzz")
    run("train.py", *fuzz.PARTS[0], *fuzz.SMALL, "trainer.epochs=1", "trainer.precision=fp32",
        "report=false",        f"hydra.run.dir={folder}", cwd=folder)  # fmt: skip
    cv2.imwrite(str(folder / "one.png"), Shapes(split="train", size=64).image(0))
    return str(folder / "checkpoints/last.pt")


def wrong_ends(count: int, seed: int, checkpoint: str, folder: Path) -> list[str]:
    """The command lines that end otherwise, with how."""
    frame, found, passed = fuzz.Frame(folder), [], 0
    for name, settings, wrong in fuzz.attempts(count, seed):
        if name in ("eval", "predict"):
            settings = (f"checkpoint={checkpoint}", "loader.workers=0", "device=cpu")
            one = str(Path(checkpoint).parents[1] / "one.png")
            settings += (f"source={one}",) if name == "predict" else ("draw=0",)
        code, err = frame.run(name, settings, wrong)
        lines = err.strip().splitlines()
        passed += code == 0
        if code not in (0, 2) or (code == 2 and len(lines) != 1) or "Traceback" in err:
            found.append(f"{code} {name} {wrong[:80]}: {len(lines)} lines, {lines[-1:]}")
    assert count / 25 < passed < count / 2  # neither all refused nor all taken
    return found


def test_60_wrong_values_are_a_line_each(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert wrong_ends(60, 0, checkpoint, tmp_path) == []


@pytest.mark.slow
def test_2000_wrong_values_are_a_line_each(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert wrong_ends(2000, 1, checkpoint, tmp_path) == []
