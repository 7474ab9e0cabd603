"""Opening a COCO-sized truth file beside its peers: `python -m engine.bench part=index`.

The file has as many images and boxes as COCO's training set of 2017, with its keys and digits but
no polygons. Each reader opens it in a process of its own, which says how long it took, without its
imports, and the most memory it had, with them.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

IMAGES, BOXES, CLASSES = 118_287, 860_001, 80
SIDE = (480, 640)  # height, width
# What is imported, then what is timed; `path` is the file.
READERS = {
    "json": ("import json", "json.load(open(path))"),
    "onelook": ("from detect.datasets.coco import COCO", "COCO(annotations=path)"),
    "pycocotools": ("from pycocotools.coco import COCO", "COCO(path)"),
    "torchvision": ("from torchvision.datasets import CocoDetection", "CocoDetection('', path)"),
    "hotcoco": ("from hotcoco import COCO", "COCO(path)"),
}
PROGRAM = """
import sys, time
path = sys.argv[1]
{imports}
start, busy = time.perf_counter(), time.process_time()
kept = {opens}
print(time.perf_counter() - start, time.process_time() - busy)
"""
# Linux keeps the peak of a process; getrusage would count that of the process which started it.
PEAK = """
with open("/proc/self/status") as file:
    print(next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024 / 1e6)
"""


def measure(*, seed: int, repeats: int) -> list[dict[str, Any]]:
    """One row a reader, of `repeats` runs in turn.

    Keys: `seconds` of the fastest and of the `slowest` run, `busy` of the processor's time in the
    fastest, which other programs lengthen less, and `peak_mb` of memory; that on Linux alone.
    """
    readers = [name for name in READERS if name == "onelook" or importlib.util.find_spec(name)]
    runs: dict[str, list[list[float]]] = {name: [] for name in readers}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "instances.json")
        write(path, seed=seed)
        for _ in range(repeats):
            for name in readers:
                runs[name].append(_open(name, path))
    return [_row(name, *zip(*each, strict=True)) for name, each in runs.items()]


def _row(
    name: str, seconds: tuple[float, ...], busy: tuple[float, ...], peak: tuple[float, ...]
) -> dict[str, Any]:
    fastest = {"seconds": min(seconds), "slowest": max(seconds), "busy": min(busy)}
    return {"reader": name, **fastest, "peak_mb": max(peak)}


def _open(name: str, path: Path) -> list[float]:
    """Seconds, those of the processor, and megabytes of one run."""
    imports, opens = READERS[name]
    program = PROGRAM.format(imports=imports, opens=opens)
    program += PEAK if sys.platform == "linux" else "print(float('nan'))"
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(number) for line in done.stdout.splitlines()[-2:] for number in line.split()]


def write(path: Path, *, seed: int, images: int = IMAGES, boxes: int = BOXES) -> None:
    """A truth file of random boxes, the same for the same seed; no box leaves its image."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(5 * images, images, replace=False))
    names = [{"id": i + 1, "name": f"class {i + 1}"} for i in range(CLASSES)]
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        file.writelines(_joined(map(_image, ids.tolist())))
        file.write('], "annotations": [')
        file.writelines(_joined(_annotations(rng, ids, boxes)))
        file.write(f'], "categories": {json.dumps(names)}}}')


def _joined(rows: Any) -> Iterator[str]:
    for i, row in enumerate(rows):
        yield ", " * (i > 0) + json.dumps(row)


def _image(number: int) -> dict[str, Any]:
    name = f"{number:012d}.jpg"
    return {
        "license": 3,
        "file_name": name,
        "coco_url": f"http://images.example.org/train2017/{name}",
        "height": SIDE[0],
        "width": SIDE[1],
        "date_captured": "2013-11-14 16:28:13",
        "flickr_url": "http://photos.example.org/8186/8119368305_4e622c8349_z.jpg",
        "id": number,
    }


def _annotations(rng: np.random.Generator, ids: np.ndarray, boxes: int) -> Iterator[dict[str, Any]]:
    size = rng.uniform(1, 200, (boxes, 2))
    corner = rng.uniform(0, 1, (boxes, 2)) * (np.array(SIDE[::-1]) - size)
    xywh = np.hstack([corner, size]).round(2).tolist()
    images, classes = rng.choice(ids, boxes).tolist(), rng.integers(1, CLASSES + 1, boxes).tolist()
    for i, (image, label, box) in enumerate(zip(images, classes, xywh, strict=True), 1):
        yield {
            "segmentation": [],
            "area": box[2] * box[3],
            "iscrowd": 0,
            "image_id": image,
            "bbox": box,
            "category_id": label,
            "id": i,
        }
