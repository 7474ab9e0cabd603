"""Image files to arrays and back, with OpenCV; a bad file is named, never half read.

An image stands upright: the turn that EXIF asks for is made, as every viewer makes it, and what is
called the original image elsewhere is this upright one. Where annotations count the stored pixels
instead, `engine.data.upright` turns their boxes.
"""

import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from engine.data import header
from engine.data.header import Header
from engine.errors import UserError

IMAGE_SUFFIXES = (  # lower case
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
MAX_PIXELS = 200_000_000  # the largest phone cameras'; 600 MB once decoded
MAX_BYTES = 8 * MAX_PIXELS  # four channels of 16 bits, not compressed

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"

# We turn, by the orientation that we read: sizes from a header and from a decoder then agree.
STORED = cv2.IMREAD_IGNORE_ORIENTATION
REDUCED = {
    1: cv2.IMREAD_COLOR | STORED,
    2: cv2.IMREAD_REDUCED_COLOR_2 | STORED,
    4: cv2.IMREAD_REDUCED_COLOR_4 | STORED,
    8: cv2.IMREAD_REDUCED_COLOR_8 | STORED,
}
# The stored image's [H, W] to upright, by EXIF's orientation (CIPA DC-008, table 6).
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: cv2.flip(x, 1),
    3: lambda x: cv2.flip(x, -1),
    4: lambda x: cv2.flip(x, 0),
    5: cv2.transpose,
    6: lambda x: cv2.rotate(x, cv2.ROTATE_90_CLOCKWISE),
    7: lambda x: cv2.flip(cv2.transpose(x), -1),
    8: lambda x: cv2.rotate(x, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def read_rgb(path: str, reduce: int = 1) -> np.ndarray:
    """The upright pixels, [H, W, 3] uint8 RGB.

    Grey becomes three equal channels, 16 bits are scaled to 8, ink (CMYK) becomes light, and what
    is transparent shows white, as a page would. Of a moving image it is the first frame.

    Args:
        path: a JPEG, PNG, WebP, TIFF, BMP, GIF or PNM file.
        reduce: 1, 2, 4 or 8: decode at this fraction. Sides are rounded up, and pixel [y, x] stands
            for the block of the whole image from [reduce * y, reduce * x] on: its mean, or of a
            JPEG, where this saves most of the decoding, the decoder's own equal of it.

    Raises:
        UserError: missing, empty, cut short, of more than `MAX_PIXELS`, or no image at all.
    """
    return decode(path, *open_image(path), reduce)


def open_image(path: str) -> tuple[bytes, Header]:
    """The bytes of an image's file, and what its header says; raises as `read_rgb`."""
    data = _read_bytes(path)
    return data, _header(path, data)


def decode(path: str, data: bytes, head: Header, reduce: int = 1) -> np.ndarray:
    """As `read_rgb`, of an opened image; the path is for messages."""
    if head.kind == "jpeg" and not _is_whole_jpeg(data):
        # Some OpenCV versions fill the missing rows with grey and only print a warning.
        raise _unreadable(path, "the JPEG is cut short (its end marker is missing)")
    # A turned image's blocks begin at the turned corner: the decoder's own must fit both.
    fits = head.orientation == 1 or not any(side % reduce for side in head.stored)
    early = reduce if head.kind == "jpeg" and fits else 1
    flags = cv2.IMREAD_UNCHANGED | STORED if head.alpha else REDUCED[early]
    try:
        # imdecode, as imread cannot open every name that the file system can.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _unreadable(path, error.err) from error
    if image is None:
        raise _unreadable(path, f"damaged {head.kind.upper()} ({len(data)} bytes)")
    if head.alpha:
        image = _on_white(image, multiplied=head.kind == "tiff" and head.bits == 8)
    else:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    if head.kind != "tiff":  # OpenCV turns a TIFF even when asked not to
        image = TURNS[head.orientation](image)
    return image if early == reduce else _shrink(image, reduce)


def image_size_of(path: str) -> tuple[int, int]:
    """(height, width) of the upright image, from the file's header; raises as `read_rgb`."""
    return read_header(path).upright


def read_header(path: str) -> Header:
    """What the file's header says; an image of more than `MAX_PIXELS` is refused.

    Raises:
        UserError: missing, empty, too large, or no image at all.
    """
    try:
        _check_file(path)
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(path, data)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except ValueError as error:  # mmap's own, of a file without bytes
        raise _unreadable(path, "the file is empty (0 bytes)") from error


def _header(path: str, data: header.Bytes) -> Header:
    head = header.parse(data)
    if head is None:
        raise _unreadable(path, f"damaged or no image ({len(data)} bytes, first {data[:4]!r})")
    if head.height * head.width > MAX_PIXELS:
        raise _unreadable(
            path,
            f"{head.width} x {head.height} pixels, more than {MAX_PIXELS / 1e6:.0f} million",
        )
    return head


def _on_white(image: np.ndarray, multiplied: bool) -> np.ndarray:
    """Whatever a decoder gives of a file that may have transparency, as [H, W, 3] uint8 RGB.

    `multiplied`: the colours come multiplied by their alpha, as libtiff gives those of 8 bits.
    """
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    colour, alpha = np.split(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA).astype(np.uint16), [3], 2)
    part = 255 * np.minimum(colour, alpha) if multiplied else colour * alpha
    return ((part + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _shrink(image: np.ndarray, by: int) -> np.ndarray:
    """The mean of each block; those over the right and lower edge repeat the last pixels."""
    down, right = (-side % by for side in image.shape[:2])
    if down or right:
        image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE)
    size = image.shape[1] // by, image.shape[0] // by
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def write_rgb(path: str, image: np.ndarray) -> None:
    """Write [H, W, 3] uint8 RGB as JPEG or PNG, by the suffix of `path`; the folder must exist.

    Raises:
        UserError: another suffix, or the file system refuses.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".jpg", ".jpeg", ".png"):
        raise UserError(f"cannot write the image {path}: end its name in .jpg, .jpeg or .png")
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    try:
        Path(path).write_bytes(data.tobytes())
    except OSError as error:
        raise UserError(f"cannot write the image {path}: {error.strerror}") from error


def _read_bytes(path: str) -> bytes:
    try:
        _check_file(path)
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if not data:
        raise _unreadable(path, "the file is empty (0 bytes)")
    return data


def _check_file(path: str) -> None:
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise _unreadable(path, "a pipe or a device, which could keep us waiting for ever")
    if found.st_size > MAX_BYTES:
        raise _unreadable(path, f"{found.st_size} bytes, more than the {MAX_BYTES} of any image")


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
    return UserError(f"cannot read the image {path}: {reason}; replace or remove the file")
