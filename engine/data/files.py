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
from engine.structures import Record

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
KEPT = 64  # frames of a video that stay in memory
NO_LABELS = np.zeros(0, np.int64)
NO_BOXES = np.zeros((0, 4), np.float32)


class Files:
    """The images of a file, a folder (with its subfolders) or a glob, sorted.

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


def _find(source: str) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    found = path.rglob("*") if path.is_dir() else map(Path, glob.glob(source, recursive=True))
    images = sorted(p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not images:
        reason = "no image in it" if path.is_dir() else "no such file, folder or glob"
        raise UserError(f"source={source}: {reason}; expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return images


class Video:
    """The frames of a video, fastest in order; the last `KEPT` frames stay in memory.

    A frame that cannot be read is left out and reported: containers often count one too many.
    """

    on_error = "skip"

    def __init__(self, *, source: str) -> None:
        self.classes: list[str] = []
        self.report: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.path = source
        if not Path(source).is_file():
            raise UserError(f"source={source}: no such file")
        self.capture = cv2.VideoCapture(source)
        self.rate = self.capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.length = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.next = 0
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
        if index != self.next:
            self.capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        self.next = index + 1
        good, frame = self.capture.read()
        if not good:
            raise UserError(f"{self.path}: frame {index} of {self.length} cannot be read")
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
