"""Images without truth, for prediction: files, folders, globs, and the frames of a video."""

import glob
import os
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engine.data.image import IMAGE_SUFFIXES, read_rgb
from engine.errors import UserError
from engine.regular_file import check_regular, is_file_name
from engine.structures import Record

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
KEPT = 64  # frames of a video that stay in memory
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
        names = {p: p.relative_to(common).as_posix() for p in self.paths}
        taken = {*names.values(), *(stem for stem, times in stems.items() if times > 1)}
        self.ids = [names[p] if p.stem in taken else p.stem for p in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

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


class Video:
    """The frames of a video, fastest in order; the last `KEPT` frames stay in memory.

    A frame that cannot be read is left out and reported. Where the frames end before the number
    that the file states, which is often one too high, so does the video: its length becomes less.
    """

    on_error = "skip"

    def __init__(self, *, source: str) -> None:
        self.classes: list[str] = []
        self.report: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.path = source
        require_file("source", source)
        self.capture = cv2.VideoCapture(source)
        self.rate = self.capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.stated = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.length = min(self.stated, Path(source).stat().st_size)  # a frame takes a byte or more
        self.next = self.seen = 0  # the next frame in order; how many there are at least
        self.kept: dict[int, np.ndarray] = {}
        if self.length < 1:
            raise UserError(f"source={source}: not a video that OpenCV can read")

    def __len__(self) -> int:
        return self.length

    def record(self, index: int) -> Record:
        """The id and path of a frame, without objects; frames count from 0."""
        return Record(f"{Path(self.path).stem}_{index:06d}", self.path, NO_LABELS, NO_BOXES)

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        if index not in self.kept:
            self.kept[index] = self._read(index)
            self.kept.pop(index - KEPT, None)
        return self.kept[index]

    def _read(self, index: int) -> np.ndarray:
        in_order = index == self.next
        if not in_order:
            self.capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        self.next = index + 1
        good, frame = self.capture.read()
        self.seen = max(self.seen, index + 1 if good else 0)
        if not good and in_order and index >= self.seen:
            self.length = min(self.length, index)
        if not good and self.length <= index < self.stated:
            raise UserError(f"{self.path}: ends after {self.length} of {self.stated} stated frames")
        if not good:
            raise UserError(f"{self.path}: frame {index} of {self.length} cannot be read")
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
