"""Size, colours and orientation of an image, read from its file's header without decoding pixels.

JPEG, PNG, WebP, TIFF, BMP, GIF and PNM (PPM, PGM, PBM). A file of any other kind has no header here
and is never decoded, so that no decoder allocates memory for a size which nobody checked. Pillow
reads all but JPEG, whose header is in memory when an image is decoded: 9 microseconds here, 27
there.
"""

import io
import re
import struct
import warnings
from collections.abc import Callable
from mmap import mmap
from typing import Any, NamedTuple

from PIL import BmpImagePlugin, GifImagePlugin, PngImagePlugin, PpmImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

Bytes = bytes | mmap

FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG's SOF markers, which hold the size
BARE = {0x01, *range(0xD0, 0xD9)}  # JPEG markers without a length
GREY, RGB, PALETTE, CMYK = "grey", "rgb", "palette", "cmyk"
COLOURS = {  # by Pillow's mode; RGB where it is not here
    "1": GREY, "L": GREY, "LA": GREY, "I": GREY, "F": GREY, "P": PALETTE, "PA": PALETTE,
    "CMYK": CMYK,
}  # fmt: skip
SWAPPING = (5, 6, 7, 8)  # orientations that turn by 90 degrees, so that width and height swap


class Header(NamedTuple):
    """An image as its file stores it."""

    kind: str  # jpeg, png, webp, tiff, bmp, gif, pnm
    height: int  # stored pixels
    width: int
    colour: str = RGB  # grey, rgb, palette, cmyk
    bits: int = 8  # of a channel; of an index where there is a palette
    alpha: bool = False  # some pixel may be transparent
    orientation: int = 1  # EXIF's 1..8: how to turn the stored pixels upright; 1 is upright

    @property
    def stored(self) -> tuple[int, int]:
        """(height, width) of the stored pixels."""
        return self.height, self.width

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) after the turn that EXIF asks for, as viewers show the image."""
        return (self.width, self.height) if self.orientation in SWAPPING else self.stored


def parse(data: Bytes) -> Header | None:
    """The header of a file, from all its bytes or a memory map of them; None if not an image."""
    kind = kind_of(data[:12])
    if kind is None:
        return None
    try:
        found = _jpeg(data) if kind == "jpeg" else _pillow(data, kind)
    except Exception:  # cut short within the header; Pillow's readers have no fixed set of errors
        return None
    return found if found and min(found.stored) > 0 else None


def kind_of(start: bytes) -> str | None:
    """The kind of image that a file is, by its first 12 bytes; None if it is none."""
    return next((k for k, (magic, _) in KINDS.items() if re.match(magic, start, re.DOTALL)), None)


def _jpeg(data: Bytes) -> Header | None:
    at, orientation = 2, 1
    while True:
        marker, size = data[at + 1], 0
        if data[at] != 0xFF:
            return None
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker not in BARE:
            (size,) = struct.unpack_from(">H", data, at + 2)
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation(data[at + 10 : at + 2 + size])
        if marker in FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            colour = {1: GREY, 4: CMYK}.get(channels, RGB)
            return Header("jpeg", height, width, colour, bits, orientation=orientation)
        at += 2 + size


def _pillow(data: Bytes, kind: str) -> Header:
    """The header of another file than a JPEG; any exception where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata
        # Not Image.open, whose limit of the size is not ours.
        image = KINDS[kind][1](io.BytesIO(data) if isinstance(data, bytes) else data)
        tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
        # Of a TIFF some versions give the size after the turn.
        width, height = (tags[256], tags[257]) if tags else image.size
        return Header(
            kind,
            height,
            width,
            COLOURS.get(image.mode.split(";")[0], RGB),
            tags.get(258, (1,))[0] if tags else _bits(image, kind),
            tags.get(338, (0,))[0] in (1, 2) if tags else _has_alpha(image),
            _turn(tags) if tags else _orientation(_exif(image, data, kind)),
        )


def _bits(image: ImageFile, kind: str) -> int:
    """Bits of a channel; 8 of an index of a palette."""
    if image.mode == "1":
        return 1
    how: Any = image.tile[0][3] if image.tile and kind in ("png", "pnm") else ""
    rawmode, largest = how if isinstance(how, tuple) else (how, 255)
    return 16 if image.mode.startswith("I") or ";16" in rawmode or largest > 255 else 8


def _has_alpha(image: ImageFile) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _exif(image: ImageFile, data: Bytes, kind: str) -> bytes:
    """The EXIF data; in a PNG it may stand behind the pixels, where Pillow looks after decoding."""
    found = image.info.get("exif", b"")
    at = 8
    while kind == "png" and not found and at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        found = data[at + 8 : at + 8 + size] if name == b"eXIf" else b""
        at += 12 + size
    return found.removeprefix(b"Exif\0\0")


def _directory(data: Bytes) -> dict[int, int]:
    """The first number of each SHORT or LONG tag, in the first directory of EXIF data."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return {}
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    tags = {}
    for row in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(f"{order}HHI", data, row)
        if kind in (3, 4):  # SHORT, LONG: in the row, or where the row points
            code, fits = ("H", 2) if kind == 3 else ("I", 1)
            (pointer,) = struct.unpack_from(f"{order}I", data, row + 8)
            offset = row + 8 if length <= fits else pointer
            (tags[tag],) = struct.unpack_from(order + code, data, offset)
    return tags


def _orientation(exif: Bytes) -> int:
    """The orientation, 1..8, in EXIF data; 1 where it cannot be read."""
    try:
        return _turn(_directory(exif))
    except struct.error:
        return 1


def _turn(tags: Any) -> int:
    return value if 1 <= (value := tags.get(274, 1)) <= 8 else 1


KINDS: dict[str, tuple[bytes, Callable[..., Any]]] = {
    "jpeg": (rb"\xff\xd8\xff", _jpeg),
    "png": (rb"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    "webp": (rb"RIFF....WEBP", WebPImagePlugin.WebPImageFile),
    "tiff": (rb"II\*\0|MM\0\*", TiffImageFile),
    "bmp": (rb"BM", BmpImagePlugin.BmpImageFile),
    "gif": (rb"GIF8[79]a", GifImagePlugin.GifImageFile),
    "pnm": (rb"P[1-6]\s", PpmImagePlugin.PpmImageFile),
}
