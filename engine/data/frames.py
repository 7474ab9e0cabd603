"""Frames to predict: of a video file, of an animated GIF or WebP, of a camera or a stream."""

import os
import re
import time
from io import BytesIO
from pathlib import Path, PurePath
from threading import Event
from typing import Any

import cv2
import numpy as np

from engine.console import info
from engine.data import header
from engine.data.files import NO_BOXES, NO_LABELS, require_file
from engine.data.image import on_white, open_image, read_header
from engine.errors import UserError
from engine.record import Record

# A lost stream is reported by this module, not by FFmpeg; -8 is its AV_LOG_QUIET.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

RATE = 25.0  # frames a second, of a source that states none
LIKELY = 240.0  # frames a second; what some streams state is their clock instead
ENDLESS = 10**9  # frames
ANSWER = 10_000  # milliseconds that a stream may take to open, and to send a frame
BACK_WITHIN = 30.0  # seconds that a lost stream may take to be back
PAUSE = 1.0  # seconds between two tries


class Frames:
    """What the kinds of frames share; `length` becomes less where they end before it.

    A frame that cannot be read is left out and reported. `path` is the source's, for messages.
    """

    on_error = "skip"

    def __init__(self, path: str, stem: str, rate: float, length: int) -> None:
        self.classes: list[str] = []
        self.report: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.path, self.stem, self.rate, self.length = path, stem, rate, length

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        """The id of a frame: the source's name and the frame's number, from 0."""
        return f"{self.stem}_{index:06d}"

    def record(self, index: int) -> Record:
        """The id and path of a frame, without objects."""
        return Record(self.name(index), self.path, NO_LABELS, NO_BOXES)


class Video(Frames):
    """The frames of a video file, fastest in order.

    Where they end before the number that the file states, which is often one too high, so does the
    video.

    Args:
        source: the file.
        frames: at most so many; None: all.
    """

    def __init__(self, *, source: str, frames: int | None = None) -> None:
        require_file("source", source)
        self.capture = cv2.VideoCapture(source)
        stated = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        length = min(stated, Path(source).stat().st_size)  # a frame takes a byte or more
        if length < 1:
            raise UserError(f"source={source}: not a video that OpenCV can read")
        self.stated, length = min(stated, frames or stated), min(length, frames or length)
        rate = self.capture.get(cv2.CAP_PROP_FPS) or RATE
        super().__init__(source, Path(source).stem, rate, length)
        self.next = self.seen = 0  # the next frame in order; how many there are at least

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
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
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=frame)


def is_animated(path: str) -> bool:
    """Whether an image file is a GIF or WebP of several frames; raises as `read_header`."""
    return read_header(path).kind in ("gif", "webp") and Animation(source=path).length > 1


class Animation(Frames):
    """The frames of a GIF or WebP file, transparent parts on white; one at a time is decoded.

    Args:
        source: the file.
        frames: at most so many; None: all.
    """

    def __init__(self, *, source: str, frames: int | None = None) -> None:
        data, head = open_image(source)  # refuses what is too large
        try:
            self.file: Any = header.KINDS[head.kind][1](BytesIO(data))
            self.file.load()
            length = self.file.n_frames
            shown = float(self.file.info.get("duration") or 100)  # milliseconds, as browsers do
        except Exception as error:  # Pillow's readers have no fixed set of errors
            raise UserError(f"source={source}: damaged {head.kind.upper()} ({error})") from error
        rate, length = round(1000 / max(shown, 10), 2), min(length, frames or length)
        super().__init__(source, Path(source).stem, rate, length)

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        try:
            self.file.seek(index)
            pixels = np.asarray(self.file.convert("RGBA"))
        except Exception as error:
            raise UserError(f"{self.path}: frame {index} cannot be read ({error})") from error
        return on_white(cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA), multiplied=False)


class Stream(Frames):
    """The frames of a camera or a network stream, in order, until `stop` or its end.

    A stream that is lost is opened again for `BACK_WITHIN` seconds; `lost` then says so. A password
    in the address is left out of every message and result.

    Args:
        source: the number of a camera, or an address: rtsp://HOST/PATH, http://HOST/PATH.
        frames: at most so many; None: until it is stopped.
    """

    def __init__(self, *, source: str, frames: int | None = None) -> None:
        self.source: int | str = int(source) if source.isdecimal() else source
        path = re.sub(r"//[^/]*@", "//", source)
        self.capture = _open(self.source)
        if not self.capture.isOpened():
            what = f"no camera {source}" if source.isdecimal() else "no stream answers there"
            raise UserError(f"source={path}: {what} that OpenCV can open; check it in a player")
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        self.stated = int(max(self.capture.get(cv2.CAP_PROP_FRAME_COUNT), 0))  # of a file
        stem = f"camera{source}" if source.isdecimal() else PurePath(path.split("?")[0]).stem
        rate = rate if 1 <= rate <= LIKELY else RATE
        super().__init__(path, stem, rate, frames or self.stated or ENDLESS)
        self.seen, self.lost, self._stopped = 0, "", Event()
        self._lost_at: float | None = None  # seconds, of the monotonic clock

    def stop(self) -> None:
        """End the stream before its next frame; from any thread, or a signal's handler."""
        self._stopped.set()

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB; each frame once, in order."""
        while index < self.length and not self._stopped.is_set():
            good, frame = self.capture.read()
            if good:
                self.seen = index + 1
                self._note_back()
                return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=frame)
            if self.stated or not self._open_again():
                break
        self.length = min(self.length, self.seen)
        why = self.lost or ("stopped" if self._stopped.is_set() else "ended")
        raise UserError(f"{self.path}: {why} after {self.length} frames")

    def _note_back(self) -> None:
        if self._lost_at is not None:
            info(f"{self.path}: back")
            self._lost_at = None

    def _open_again(self) -> bool:
        """Whether the stream could be opened in the time that is left since its last frame."""
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            info(f"{self.path}: lost after {self.seen} frames, tried for {BACK_WITHIN:.0f} s")
        else:  # it opened, but sent nothing
            self._stopped.wait(PAUSE)
        while time.monotonic() < self._lost_at + BACK_WITHIN and not self._stopped.is_set():
            self.capture.release()
            self.capture = _open(self.source)
            if self.capture.isOpened():
                return True
            self._stopped.wait(PAUSE)
        if not self._stopped.is_set():
            self.lost = f"lost, and not back within {BACK_WITHIN:.0f} s,"
        return False


def _open(source: int | str) -> cv2.VideoCapture:
    if isinstance(source, int):
        return cv2.VideoCapture(source)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, ANSWER, cv2.CAP_PROP_READ_TIMEOUT_MSEC, ANSWER]
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
