"""Scoring predictions from the shell beside hotcoco alone: `python -m engine.bench part=score`.

As for COCO's validation set: 5,000 images, 37,099 objects, 413,742 detections. Each command is a
process of its own, of which the seconds are whole: its start, imports, reading and scoring.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

IMAGES, OBJECTS, DETECTIONS, CLASSES = 5_000, 37_099, 413_742, 80
ONELOOK = """
from engine.commands import evaluate
sys.argv = ["eval.py", f"truth={{truth}}", f"predictions={{found}}", f"hydra.run.dir={{out}}"]
sys.argv.append("metric={}")
evaluate()
"""
COMMANDS = {
    "onelook coco_map": ONELOOK.format("coco_map"),
    "onelook voc_map": ONELOOK.format("voc_map"),
    "hotcoco": """
from hotcoco import COCO, COCOeval
coco = COCO(truth)
judge = COCOeval(coco, coco.load_res(found), "bbox")
judge.run()
print("AP", judge.stats[0])
""",
}
PROGRAM = """
import sys, time
truth, found, out = sys.argv[1:]
try:
    {}
finally:
    print("busy", time.process_time())
    if sys.platform == "linux":  # which keeps the peak of a process
        with open("/proc/self/status") as file:
            print("peak", next(line.split()[1] for line in file if line.startswith("VmHWM:")))
"""


def measure(*, seed: int, repeats: int) -> list[dict[str, Any]]:
    """One row a command, of `repeats` runs in turn.

    Keys: `seconds` of the fastest and of the `slowest` run, `busy` of the processor's time in the
    fastest, `peak_mb` of memory, NaN but on Linux, and the `number` that it prints first.
    """
    runs: dict[str, list[list[float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), seed=seed)
        for _ in range(repeats):
            for command, program in COMMANDS.items():
                runs[command].append(_run(program, name))
    return [_row(name, *zip(*each, strict=True)) for name, each in runs.items()]


def _row(name: str, seconds: Any, busy: Any, peak: Any, number: Any) -> dict[str, Any]:
    fastest = {"seconds": min(seconds), "slowest": max(seconds), "busy": min(busy)}
    return {"command": name, **fastest, "peak_mb": max(peak), "number": number[0]}


def _run(program: str, folder: str) -> list[float]:
    """Seconds, those of the processor, megabytes and the number of one run."""
    whole = PROGRAM.format(program.strip().replace("\n", "\n    "))
    files = [str(Path(folder, name)) for name in ("truth.json", "found.json", "out")]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", whole, *files], check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    lines = [line.split() for line in done.stdout.splitlines() if line]
    values = {words[0]: words[-1] for words in reversed(lines)}
    number = next(values[key] for key in ("AP", "mAP") if key in values)
    peak = float(values.get("peak", "nan")) * 1024 / 1e6
    return [seconds, float(values["busy"]), peak, float(number)]


def write(
    folder: Path,
    *,
    seed: int,
    images: int = IMAGES,
    objects: int = OBJECTS,
    detections: int = DETECTIONS,
) -> None:
    """Write truth.json and found.json, the same for the same seed; a third lie near an object."""
    rng = np.random.default_rng(seed)
    image, box, label = _boxes(rng, images, objects)
    rows = _rows(image, label, box)
    annotations = [
        {"id": i, **row, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": int(i % 100 == 0)}
        for i, row in enumerate(rows, 1)
    ]
    files = [{"id": i + 1, "file_name": f"{i}.jpg", "height": 480, "width": 640}
             for i in range(images)]  # fmt: skip
    names = [{"id": k + 1, "name": f"class {k + 1}"} for k in range(CLASSES)]
    truth = {"images": files, "annotations": annotations, "categories": names}
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    near, of = rng.random(detections) < 1 / 3, rng.integers(0, objects, detections)
    other = _boxes(rng, images, detections)
    moved = box[of] * rng.normal(1, 0.08, (detections, 4))
    columns = [
        np.where(near if one.ndim == 1 else near[:, None], one, two)
        for one, two in zip((image[of], moved, label[of]), other, strict=True)
    ]
    scores = np.where(near, rng.beta(3, 2, detections), rng.beta(1, 8, detections)).round(5)
    found = _rows(columns[0], columns[2], columns[1])
    lines = [{**row, "score": s} for row, s in zip(found, scores.tolist(), strict=True)]
    (folder / "found.json").write_text(json.dumps(lines), encoding="utf-8")


def _boxes(rng: np.random.Generator, images: int, count: int) -> tuple[np.ndarray, ...]:
    """Image [N], xywh [N, 4] and class [N] of random boxes, within 640 x 480 pixels."""
    size = np.exp(rng.uniform(np.log(8), np.log(250), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * ((640, 480) - size)
    image, label = (np.sort(rng.integers(0, images, count)), rng.integers(0, CLASSES, count))
    return image, np.hstack([corner, size]), label


def _rows(image: np.ndarray, label: np.ndarray, box: np.ndarray) -> list[dict[str, Any]]:
    columns = ((image + 1).tolist(), (label + 1).tolist(), box.round(2).tolist())
    return [{"image_id": i, "category_id": k, "bbox": b} for i, k, b in zip(*columns, strict=True)]
