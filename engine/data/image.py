"""Reads image files to arrays and writes them, with OpenCV; a damaged file is an error by name.

Images are read upright: turned as EXIF asks, as every viewer does. "The original image" means this
upright one everywhere. Where the boxes of an annotation are in pixels of the stored image instead,
`engine.data.upright` turns them.
"""

import mmap
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from engine.data import header
from engine.data.header import Header
from engine.errors import UserError
from engine.regular_file import check_regular, open_regular
from engine.whole_file import write_whole

IMAGE_SUFFIXES = (  # lower case
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
MAX_PIXELS = 200_000_000  # of the largest phone cameras; 600 MB decoded
MAX_GIF = MAX_PIXELS // 4  # OpenCV takes 7 bytes a pixel, and 20 ns, however small the file is
MAX_BYTES = 8 * MAX_PIXELS  # of a file: four channels of 16 bits, uncompressed
MAX_DECODED = 4 * MAX_PIXELS  # bytes
JPEG_PIXELS = 512  # that a byte can hold: every block of 8 x 8 pixels of a component takes a bit
STRIP = 2**16  # pixels that are laid on white at once

# What its decoders report of a damaged file is reported here, in one line with the file's name.
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"

# Turned here, by the orientation in the header: the sizes of header and decoded image then agree.
STORED = cv2.IMREAD_IGNORE_ORIENTATION
# In RGB by the decoder itself, from OpenCV 4.11 on: a tenth faster than to swap channels later.
COLOUR = vars(cv2).get("IMREAD_COLOR_RGB", cv2.IMREAD_COLOR)
REDUCED = {
    reduce: (flags & ~cv2.IMREAD_COLOR) | COLOUR | STORED
    for reduce, flags in {
        1: cv2.IMREAD_COLOR,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }.items()
}
# From the stored image to the upright one, by EXIF's orientation (CIPA DC-008, table 6).
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

    Grey becomes three equal channels, 16 bits are scaled to 8, CMYK becomes RGB, and transparent
    pixels are laid on white. Of an animated image it is the first frame.

    Args:
        path: a JPEG, PNG, WebP, TIFF, BMP, GIF or PNM file.
        reduce: 1, 2, 4 or 8: decode at 1 / reduce of the size. Sides are rounded up, and pixel
            [y, x] is the mean of the block of the full image from [reduce * y, reduce * x] on; for
            a JPEG the decoder's own reduced size, which saves most of the decoding.

    Raises:
        UserError: missing, empty, truncated, of more than `MAX_PIXELS`, or not an image.
    """
    return decode(path, *open_image(path), reduce)


def open_image(path: str) -> tuple[bytes, Header]:
    """The bytes and the header of an image file; raises as `read_rgb`."""
    return opened(path, _read_bytes(path))


def opened(path: str, data: bytes) -> tuple[bytes, Header]:
    """As `open_image`, of bytes that are read already; the path is for messages."""
    if not data:
        raise _unreadable(path, "the file is empty (0 bytes)")
    return data, _header(path, data)


def decode(path: str, data: bytes, head: Header, reduce: int = 1) -> np.ndarray:
    """As `read_rgb`, from what `open_image` returned; the path is for messages."""
    if head.kind == "jpeg" and (
        not _is_whole_jpeg(data) or len(data) * JPEG_PIXELS < head.height * head.width
    ):
        # Some OpenCV versions fill the missing rows with grey and only print a warning.
        raise _unreadable(path, "the JPEG is cut short (its end marker or its pixels are missing)")
    # The decoder's blocks begin at the stored image's corner: in a turned image they are the same
    # blocks only where they divide both sides.
    fits = head.orientation == 1 or not any(side % reduce for side in head.stored)
    early = reduce if head.kind == "jpeg" and fits else 1
    image = _stored_pixels(path, data, head, early)
    if head.alpha:
        image = on_white(image, multiplied=head.kind == "tiff" and head.bits == 8)
    elif cv2.IMREAD_COLOR == COLOUR:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    if head.kind != "tiff":  # OpenCV turns a TIFF even when asked not to
        image = TURNS[head.orientation](image)
    return image if early == reduce else _shrink(image, reduce)


def _stored_pixels(path: str, data: bytes, head: Header, reduce: int) -> np.ndarray:
    """The pixels as the decoder gives them, of the size that the header says."""
    flags = cv2.IMREAD_UNCHANGED | STORED if head.alpha else REDUCED[reduce]
    try:
        # imdecode, as imread cannot open every name that the file system can.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _unreadable(path, error.err) from error
    if image is None:
        raise _unreadable(path, f"damaged {head.kind.upper()} ({len(data)} bytes)")
    size = head.upright if head.kind == "tiff" else head.stored  # OpenCV turns a TIFF unasked
    if image.shape[:2] != tuple(-(-side // reduce) for side in size):
        raise _unreadable(
            path,
            f"its header says {size[1]} x {size[0]} pixels, its stream has "
            f"{image.shape[1]} x {image.shape[0]}",
        )
    return image


def image_size_of(path: str) -> tuple[int, int]:
    """(height, width) of the upright image, from the file's header; raises as `read_rgb`."""
    return read_header(path).upright


def read_header(path: str) -> Header:
    """The header of an image file.

    Raises:
        UserError: missing, empty, of more than `MAX_PIXELS`, or not an image.
    """
    try:
        check_regular(path, MAX_BYTES)
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(path, data)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except ValueError as error:  # of mmap, for a file without bytes
        raise _unreadable(path, "the file is empty (0 bytes)") from error


def _header(path: str, data: header.Bytes) -> Header:
    head = header.parse(data)
    if head is None:
        raise _no_image(path, len(data), data[:4])
    most = MAX_GIF if head.kind == "gif" else MAX_PIXELS
    if head.height * head.width > most:
        size = f"{head.width} x {head.height} pixels"
        raise _unreadable(path, f"{size}, more than {most / 1e6:.0f} million")
    if head.alpha and head.height * head.width * head.bits // 2 > MAX_DECODED:  # 4 channels
        raise _unreadable(
            path,
            f"{head.width} x {head.height} pixels of 4 x {head.bits} bits, more than "
            f"{MAX_DECODED / 1e6:.0f} million bytes",
        )
    return head


def on_white(image: np.ndarray, multiplied: bool) -> np.ndarray:
    """[H, W, 3] uint8 RGB on white, from the decoded image of a file with an alpha channel.

    `multiplied`: its colours are multiplied by alpha already, as libtiff's are at 8 bits.
    """
    if image.dtype == np.uint16 and (image.ndim == 2 or image.shape[2] == 3):
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    page = np.empty((*image.shape[:2], 3), np.uint8)
    rows = max(1, STRIP // image.shape[1])
    for top in range(0, len(page), rows):  # a strip at a time, as it takes 20 bytes a pixel
        page[top : top + rows] = _blend(image[top : top + rows], multiplied)
    return page


def _blend(image: np.ndarray, multiplied: bool) -> np.ndarray:
    """[H, W, 3] uint8 RGB on white, from [H, W, 4] BGRA of 8 or 16 bits."""
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    colour, alpha = np.split(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA).astype(np.uint16), [3], 2)
    part = 255 * np.minimum(colour, alpha) if multiplied else colour * alpha
    return ((part + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _shrink(image: np.ndarray, by: int) -> np.ndarray:
    """The mean of each block of `by` x `by` pixels; the last row and column repeat to fill them."""
    down, right = (-side % by for side in image.shape[:2])
    if down or right:
        image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE)
    size = image.shape[1] // by, image.shape[0] // by
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def write_rgb(path: str, image: np.ndarray) -> None:
    """Write [H, W, 3] uint8 RGB as JPEG or PNG, by the suffix of `path`.

    Raises:
        UserError: another suffix, or the file cannot be written (NotWritten).
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".jpg", ".jpeg", ".png"):
        raise UserError(f"cannot write the image {path}: end its name in .jpg, .jpeg or .png")
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    write_whole(path, data.tobytes())


def png(image: np.ndarray) -> bytes:
    """[H, W, 3] uint8 RGB as the bytes of a PNG file."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def _read_bytes(path: str) -> bytes:
    try:
        with open_regular(path, MAX_BYTES) as file:
            start = file.read(16)
            if start and not header.kind_of(start):  # before a gigabyte of something else is read
                raise _no_image(path, os.path.getsize(path), start)
            file.seek(0)
            return file.read()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether the end marker follows the pixels; phones append data behind it, which is fine."""
    if data.endswith(JPEG_END):
        return True
    # An EXIF thumbnail ends with the same marker, so step over the header, segment by segment.
    at = len(JPEG_START)
    while at < len(data) and data[at : at + 2] != JPEG_SCAN:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(JPEG_END, at) >= 0


def _no_image(path: str, size: int, start: bytes) -> UserError:
    return _unreadable(path, f"damaged or no image ({size} bytes, first {start[:4]!r})")


def _unreadable(path: str, reason: str) -> UserError:
    return UserError(f"cannot read the image {path}: {reason}; replace or remove the file")
