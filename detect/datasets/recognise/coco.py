"""COCO's JSON."""

import re
from collections.abc import Iterator
from pathlib import Path

from detect.datasets.recognise.look import Look, Reading, ends

LISTS = [re.compile(rf'"{name}"\s*:') for name in ("images", "annotations", "categories")]
MOST = 40  # JSON files of a folder that has COCO's; labelme's are as many as the images


def is_coco(text: str, whole: bool = False) -> bool:
    """Whether a file with this beginning and end has COCO's lists; a large one may hide one."""
    found = sum(bool(pattern.search(text)) for pattern in LISTS)
    return found == len(LISTS) or (found == 2 and not whole and len(text) > 2**16)


def coco_files(look: Look) -> list[str]:
    """The files of a folder that are COCO's, by their beginnings and ends."""
    files = [f for f in look.files(".json") if f.count("/") < 3]
    if len(files) > MOST:
        files = [f for f in files if "instances" in f or "coco" in f.lower()][:MOST]
    return [file for file in files if is_coco(ends(look.root / file))]


def readings(look: Look) -> Iterator[Reading]:
    """COCO, where a file has its lists."""
    if files := coco_files(look):
        names = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
        yield Reading("coco", f"COCO ({names})", {"root": str(look.root)})


def of_file(path: Path) -> Iterator[Reading]:
    """COCO, where this file is its."""
    if is_coco(ends(path)):
        yield Reading("coco", "COCO, one file", {"annotations": str(path)})
