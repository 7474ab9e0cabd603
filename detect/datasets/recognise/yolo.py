"""YOLO's text files, with data.yaml, obj.data or classes.txt."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from detect.datasets.recognise.look import Look, Reading, ends

NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
ROW = re.compile(rf"\d+(?:\.0*)?(?:[ \t]+{NUMBER}){{4,}}[ \t]*")
NAMES = re.compile(r"^names\s*:", re.MULTILINE)
DATA = re.compile(r"^\s*(?:names|train)\s*=", re.MULTILINE)


def readings(look: Look) -> Iterator[Reading]:
    """YOLO, where files of rows have images, or a file describes such a set."""
    about = [f for f, text in look.texts(_top(look, ".yaml", ".yml")) if NAMES.search(text)]
    about += [f for f, text in look.texts(_top(look, ".data")) if DATA.search(text)]
    rows = label_files(look)
    if not rows and not (about and look.images):
        return
    by = about[0] if about else "no data.yaml"
    yield Reading("yolo", f"YOLO ({by}, {len(rows)} files of rows)", {"root": str(look.root)})


def of_file(path: Path, folder: str | None) -> Iterator[Reading]:
    """YOLO, where this file describes such a set."""
    kind = {".yaml": NAMES, ".yml": NAMES, ".data": DATA}.get(path.suffix.lower())
    if kind and kind.search(ends(path)):
        yield Reading("yolo", f"YOLO ({path.name})", {"root": str(path)})


def label_files(look: Look) -> list[str]:
    """The text files beside or parallel to images, if a sample of them has rows of YOLO."""
    stems = {PurePosixPath(n).stem for folder in look.folders.values() for n in folder.images}
    files = [f for f in look.files(".txt") if PurePosixPath(f).stem in stems]
    found = [lines for _, text in look.texts(files) if (lines := text.split("\n")[:5])]
    good = [all(ROW.fullmatch(row.strip()) for row in lines if row.strip()) for lines in found]
    filled = any(row.strip() for lines in found for row in lines)
    return files if good and all(good) and filled else []


def _top(look: Look, *suffixes: str) -> list[str]:
    return [file for file in look.files(*suffixes) if file.count("/") < 2]
