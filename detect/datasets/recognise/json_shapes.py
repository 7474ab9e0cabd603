"""JSON of shapes: labelme's, a file an image, and VIA's, a file for many (or a CSV)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detect.datasets.coco_layout import is_coco
from detect.datasets.recognise.look import Look, Reading, ends

SHAPES, POINTS = re.compile(r'"shapes"\s*:\s*\['), re.compile(r'"(?:imagePath|points)"\s*:')
REGIONS = re.compile(r'"(?:regions|region_shape_attributes)"\s*:|region_shape_attributes')
FILENAME = re.compile(r'"?filename"?\s*[:,]')
MOST = 40  # files of many images that a folder has


def readings(look: Look) -> Iterator[Reading]:
    """labelme, where the JSON files of images have shapes; VIA, where files have regions."""
    files = look.files(".json")
    if any(is_labelme(text) for _, text in look.texts(files)):
        what = f"labelme ({len(files)} JSON files)"
        yield Reading("labelme", what, {"root": str(look.root)})
        return
    tables = [f for f in [*files, *look.files(".csv")] if f.count("/") < 3]
    found = [f for f in tables[:MOST] if is_via(ends(look.root / f))]
    for paths, names in look.annotations(found):
        yield _via(look.root, paths, names)


def of_file(path: Path, folder: str | None) -> Iterator[Reading]:
    """VIA, where this file is its."""
    if is_via(ends(path)):
        yield _via(Path(folder) if folder else path.parent, str(path), path.name)


def _via(root: Path, paths: Any, names: str) -> Reading:
    return Reading("via", f"VIA ({names})", {"root": str(root), "annotations": paths})


def is_labelme(text: str) -> bool:
    """Whether a file with this beginning and end is labelme's."""
    return bool(SHAPES.search(text) and POINTS.search(text))


def is_via(text: str) -> bool:
    """Whether a file with this beginning and end is VIA's."""
    return bool(REGIONS.search(text) and FILENAME.search(text)) and not is_coco(text)
