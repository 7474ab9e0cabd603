"""COCO's JSON."""

from collections.abc import Iterator
from pathlib import Path

from detect.datasets.coco_layout import images_of, is_coco
from detect.datasets.recognise.look import Look, Reading, ends

MOST = 40  # JSON files of a folder that has COCO's; labelme's are as many as the images


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


def of_file(path: Path, folder: str | None) -> Iterator[Reading]:
    """COCO, where this file is its."""
    if is_coco(ends(path)):
        values = {"annotations": str(path)}
        if folder or any(path.parent.iterdir()):
            values["images"] = str(folder or images_of(path, path.parent))
        yield Reading("coco", "COCO, one file", values)
