"""Write a tiny detector's checkpoint as this version of the program does, and its numbers.

    python tests/old/make.py tests/old/format_4

FILE.pt.gz is `last.pt` after two epochs, FILE.json what an evaluation and a third epoch give then.
Run once with the last commit of a format (format 4: 9b899a0); later versions must read the file.
"""

import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = ["backbone=resnet_cifar", "backbone.depth=8", "head.levels=1", "head.extra_channels=4",
        "head.first_stride=4", "head.ratios=[1.0]", "loss=multibox", "optimizer=momentum",
        "schedule=one_cycle", "image_size=32", "dataset.size=32", "dataset.train=8",
        "dataset.val=4", "dataset.test=4", "trainer.epochs=2", "trainer.eval_every=1",
        "trainer.precision=fp32", "loader.batch_size=4", "loader.workers=0", "device=cpu",
        "backbone.width=8"]  # fmt: skip


def run(command: str, *arguments: str, folder: Path) -> dict:
    """The metrics that a command leaves."""
    line = [sys.executable, str(ROOT / command), *arguments, f"hydra.run.dir={folder}"]
    subprocess.run(line, check=True, cwd=ROOT)
    return json.loads((folder / "metrics.json").read_text())["metrics"]


def main(file: Path) -> None:
    """Train, evaluate, and train on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("train.py", *TINY, folder=folder / "run")
        last = folder / "run/checkpoints/last.pt"
        checkpoint = last.read_bytes()
        evaluated = run("eval.py", f"checkpoint={last}", folder=folder / "eval")
        run("train.py", f"resume={last}", "trainer.epochs=3", folder=folder / "run")
        table = (folder / "run/metrics.csv").read_text().splitlines()
    row = dict(zip(table[0].split(","), map(float, table[-1].split(",")), strict=True))
    row.pop("seconds")
    file.with_suffix(".pt.gz").write_bytes(gzip.compress(checkpoint, mtime=0))
    content = {"evaluated": evaluated, "third_epoch": row}
    file.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
