"""Images without truth, for prediction: files, folders, globs."""

import glob
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.image import IMAGE_SUFFIXES, read_rgb
from engine.errors import UserError
from engine.record import Record
from engine.regular_file import check_regular, is_file_name

NO_LABELS = np.zeros(0, np.int64)
NO_BOXES = np.zeros((0, 4), np.float32)


class Files:
    """The images of a file, a folder (with its subfolders) or a glob, sorted; no hidden files.

    An image's id is its file's stem; its path below the common folder where that stem is another
    image's too, or another's path.

    Raises:
        UserError: `source` does not exist, or has no image in it.
    """

    stored = True

    def __init__(self, *, source: str, on_error: str = "fail") -> None:
        if on_error not in ("fail", "skip"):
            raise UserError(f"on_error={on_error}: expected fail or skip")
        self.classes: list[str] = []
        self.report: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.on_error = on_error
        self.paths = _find(source)
        stems = Counter(p.stem for p in self.paths)
        common = Path(os.path.commonpath([p.parent for p in self.paths]))
        self.names = [p.relative_to(common).as_posix() for p in self.paths]
        taken = {*self.names, *(stem for stem, times in stems.items() if times > 1)}
        named = zip(self.paths, self.names, strict=True)
        self.ids = [name if p.stem in taken else p.stem for p, name in named]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path of an image below the common folder of all."""
        return self.names[index]

    def record(self, index: int) -> Record:
        """The id and path of an image, without objects."""
        return Record(self.ids[index], str(self.paths[index]), NO_LABELS, NO_BOXES)

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        return read_rgb(str(self.paths[index]))


def require_file(key: str, path: str) -> None:
    """UserError that names the key unless the path is that of a regular file."""
    try:
        check_regular(path)
    except OSError as error:
        raise UserError(f"{key}={path}: {error.strerror}; check the path") from None


def _find(source: str) -> list[Path]:
    path = Path(source)
    if not is_file_name(source):
        raise UserError(f"source={source!r}: no file can have this name; check the path")
    if path.exists() and not path.is_dir():
        require_file("source", source)
        return [path]
    found = path.rglob("*") if path.is_dir() else map(Path, glob.glob(source, recursive=True))
    seen = (p for p in found if not p.name.startswith("."))  # ._a.jpg is macOS's note on a.jpg
    images = sorted(p for p in seen if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir())
    if not images:
        reason = "no image in it" if path.is_dir() else "no such file, folder or glob"
        raise UserError(f"source={source}: {reason}; expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return images
