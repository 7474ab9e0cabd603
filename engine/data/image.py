"""Picture files to arrays and back, with OpenCV; a bad file is named, never half read."""

from pathlib import Path

import cv2
import numpy as np

from engine.errors import UserError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")  # lower case

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"

# Boxes of VOC and COCO count the stored pixels: a turn asked for by EXIF would part them.
READ_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def read_rgb(path: str) -> np.ndarray:
    """The stored pixels, EXIF rotation not applied: [H, W, 3] uint8 RGB.

    Grey becomes three equal channels, 16 bits become 8, transparency is dropped.

    Raises:
        UserError: missing, empty, cut short or no picture at all.
    """
    data = _read_bytes(path)
    if data.startswith(JPEG_START) and not _is_whole_jpeg(data):
        # Some OpenCV versions fill the missing rows with grey and only print a warning.
        raise _unreadable(path, "the JPEG is cut short (its end marker is missing)")
    try:
        # imdecode, as imread cannot open every name that the file system can.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), READ_FLAGS)
    except cv2.error as error:
        raise _unreadable(path, error.err) from error
    if image is None:
        raise _unreadable(path, f"damaged or no picture ({len(data)} bytes, first {data[:4]!r})")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def write_rgb(path: str, image: np.ndarray) -> None:
    """Write [H, W, 3] uint8 RGB as JPEG or PNG, by the suffix of `path`; the folder must exist.

    Raises:
        UserError: another suffix, or the file system refuses.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".jpg", ".jpeg", ".png"):
        raise UserError(f"cannot write the picture {path}: end its name in .jpg, .jpeg or .png")
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    try:
        Path(path).write_bytes(data.tobytes())
    except OSError as error:
        raise UserError(f"cannot write the picture {path}: {error.strerror}") from error


def _read_bytes(path: str) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if not data:
        raise _unreadable(path, "the file is empty (0 bytes)")
    return data


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether the end marker follows the pixels; phones append more behind it, which is fine."""
    if data.endswith(JPEG_END):
        return True
    # An EXIF thumbnail ends with the same marker, so step over the header, segment by segment.
    at = len(JPEG_START)
    while at < len(data) and data[at : at + 2] != JPEG_SCAN:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(JPEG_END, at) >= 0


def _unreadable(path: str, reason: str) -> UserError:
    return UserError(f"cannot read the picture {path}: {reason}; replace or remove the file")
