"""The XML file of "CVAT for images"."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detect.datasets.recognise.look import Look, Reading, ends

CVAT_ROOT = re.compile(r"<annotations[\s>]")
IMAGE = re.compile(r"<image\s[^>]*\bname=")
MOST = 40  # XML files of a folder that has CVAT's; VOC's are as many as the images


def readings(look: Look) -> Iterator[Reading]:
    """CVAT, where a file has its root and images; files that are splits of a set together."""
    files = [f for f in look.files(".xml") if f.count("/") < 3]
    found = [f for f in files if is_cvat(ends(look.root / f))] if len(files) <= MOST else []
    for paths, names in look.annotations(found):
        yield _cvat(look.root, paths, names)


def of_file(path: Path, folder: str | None) -> Iterator[Reading]:
    """CVAT, where this file is its."""
    if path.suffix.lower() == ".xml" and is_cvat(ends(path)):
        yield _cvat(Path(folder) if folder else path.parent, str(path), path.name)


def is_cvat(text: str) -> bool:
    """Whether a file with this beginning and end is CVAT's."""
    return bool(CVAT_ROOT.search(text) and IMAGE.search(text))


def _cvat(root: Path, paths: Any, names: str) -> Reading:
    return Reading("cvat", f"CVAT for images ({names})", {"root": str(root), "annotations": paths})
