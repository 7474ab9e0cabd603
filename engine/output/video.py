"""Writes a video, whole or not at all."""

from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from engine.whole_file import NotWritten, replacing


class Video:
    """An MP4 file that takes its name when it is closed.

    OpenCV reports no error of a write, so the frames are counted in the end.

    Args:
        path: the file.
        rate: frames a second.
        size: (width, height) of the frames; another one is made this.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        self.path, self.frames, self._stack = path, 0, ExitStack()
        self._size = size
        self._temporary = str(self._stack.enter_context(replacing(path, path.suffix)))
        self._writer = cv2.VideoWriter(self._temporary, cv2.VideoWriter.fourcc(*"mp4v"), rate, size)

    def add(self, image: np.ndarray) -> None:
        """Write a frame, [H, W, 3] uint8 RGB."""
        if image.shape[1::-1] != self._size:  # a stream may come back with another
            image = cv2.resize(image, self._size)
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def close(self, error: BaseException | None) -> None:
        """Finish the file, or after an error remove it and raise that again.

        Raises:
            NotWritten: the file has not all frames.
        """
        self._writer.release()
        with self._stack:
            if error is not None:
                raise error  # for the file, which is removed
            if (found := self._count()) != self.frames:
                raise NotWritten(self.path, f"{found} of {self.frames} frames arrived on the disk")

    def _count(self) -> int:
        reader = cv2.VideoCapture(self._temporary)
        found = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.release()
        return found
