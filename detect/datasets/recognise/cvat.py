"""The XML file of "CVAT for images"."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detect.datasets.recognise.look import Look, Reading, ends
from engine.data.tree import SPLITS, split_of

CVAT_ROOT = re.compile(r"<annotations[\s>]")
IMAGE = re.compile(r"<image\s[^>]*\bname=")
MOST = 40  # XML files of a folder that has CVAT's; VOC's are as many as the images


def readings(look: Look) -> Iterator[Reading]:
    """CVAT, where a file has its root and images; files that are splits of a set together."""
    files = [f for f in look.files(".xml") if f.count("/") < 3]
    found = [f for f in files if is_cvat(ends(look.root / f))] if len(files) <= MOST else []
    splits = {split_of(Path(f).stem) or SPLITS.get(Path(f).parent.name.lower()): f for f in found}
    if len(found) > 1 and "train" in splits and None not in splits and len(splits) == len(found):
        paths = {split: str(look.root / file) for split, file in splits.items()}
        yield _cvat(look.root, paths, ", ".join(found))
        return
    for file in found:
        yield _cvat(look.root, str(look.root / file), file)


def of_file(path: Path, folder: str | None) -> Iterator[Reading]:
    """CVAT, where this file is its."""
    if path.suffix.lower() == ".xml" and is_cvat(ends(path)):
        yield _cvat(Path(folder) if folder else path.parent, str(path), path.name)


def is_cvat(text: str) -> bool:
    """Whether a file with this beginning and end is CVAT's."""
    return bool(CVAT_ROOT.search(text) and IMAGE.search(text))


def _cvat(root: Path, paths: Any, names: str) -> Reading:
    return Reading("cvat", f"CVAT for images ({names})", {"root": str(root), "annotations": paths})
