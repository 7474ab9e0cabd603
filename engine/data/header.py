"""Size, colours and orientation of an image, read from its file's header without decoding pixels.

JPEG, PNG, WebP, TIFF, BMP, GIF and PNM (PPM, PGM, PBM). A file of any other kind has no header here
and is never decoded, so that no decoder allocates memory for a size which nobody checked.
"""

import re
import struct
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

Bytes = bytes | mmap

FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG's SOF markers, which hold the size
BARE = {0x01, *range(0xD0, 0xD9)}  # JPEG markers without a length
GREY, RGB, PALETTE, CMYK = "grey", "rgb", "palette", "cmyk"
PNG_COLOUR = {0: GREY, 2: RGB, 3: PALETTE, 4: GREY, 6: RGB}
TIFF_COLOUR = {0: GREY, 1: GREY, 2: RGB, 3: PALETTE, 5: CMYK, 6: RGB}
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
    start = data[:12]
    for kind, (magic, read) in KINDS.items():
        if re.match(magic, start, re.DOTALL):
            try:
                found = read(data)
            except (struct.error, IndexError, KeyError, ValueError):
                return None  # cut short within the header
            good = found is not None and min(found.stored) > 0
            return found._replace(kind=kind) if found and good else None
    return None


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
            return Header("", height, width, colour, bits, orientation=orientation)
        at += 2 + size


def _png(data: Bytes) -> Header:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    alpha, orientation, at = colour >= 4, 1, 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        alpha |= name == b"tRNS"
        if name == b"eXIf":
            orientation = _orientation(data[at + 8 : at + 8 + size])
        at += 12 + size
    return Header("", height, width, PNG_COLOUR[colour], bits, alpha, orientation)


def _webp(data: Bytes) -> Header | None:
    found, alpha, orientation = None, False, 1
    for name, at, size in _riff(data):
        if name == b"VP8X":
            alpha = bool(data[at] & 16)
            width, height = (int.from_bytes(data[at + i : at + i + 3], "little") for i in (4, 7))
            found = Header("", height + 1, width + 1)
        elif name == b"VP8L" and not found:
            (packed,) = struct.unpack_from("<I", data, at + 1)
            alpha = bool(packed >> 28 & 1)
            found = Header("", (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1)
        elif name == b"VP8 " and not found:
            width, height = struct.unpack_from("<HH", data, at + 6)
            found = Header("", height & 0x3FFF, width & 0x3FFF)
        elif name == b"EXIF":
            start = 6 if data[at : at + 6] == b"Exif\0\0" else 0
            orientation = _orientation(data[at + start : at + size])
    return found and found._replace(alpha=alpha, orientation=orientation)


def _riff(data: Bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and size of each chunk."""
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        yield name, at + 8, size
        at += 8 + size + size % 2


def _tiff(data: Bytes) -> Header:
    tags = _directory(data)
    return Header(
        "",
        tags.get(257, 0),
        tags.get(256, 0),
        TIFF_COLOUR.get(tags.get(262, 2), RGB),
        tags.get(258, 1),
        alpha=tags.get(338) in (1, 2),  # an extra channel of another kind is no transparency
        orientation=_turn(tags),
    )


def _directory(data: Bytes) -> dict[int, int]:
    """The first number of each SHORT or LONG tag, in the first directory of TIFF or EXIF data."""
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


def _turn(tags: dict[int, int]) -> int:
    return value if 1 <= (value := tags.get(274, 1)) <= 8 else 1


def _bmp(data: Bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height, _, bits = struct.unpack_from("<HHHH" if size == 12 else "<iiHH", data, 18)
    return Header("", abs(height), abs(width), PALETTE if bits <= 8 else RGB, min(bits, 8))


def _gif(data: Bytes) -> Header:
    width, height, packed = struct.unpack_from("<HHB", data, 6)
    # A transparent colour is declared in a graphic control extension.
    alpha = re.search(rb"\x21\xf9\x04[\x01-\xff]", data[:4096]) is not None
    return Header("", height, width, PALETTE, (packed & 7) + 1, alpha)


def _pnm(data: Bytes) -> Header:
    kind = int(chr(data[1]))
    start = re.sub(rb"#[^\n]*", b" ", data[2:4096])
    numbers = start.split(maxsplit=3)
    largest = 1 if kind in (1, 4) else int(numbers[2])  # a bitmap does not state it
    colour = RGB if kind in (3, 6) else GREY
    return Header("", int(numbers[1]), int(numbers[0]), colour, largest.bit_length())


KINDS = {
    "jpeg": (rb"\xff\xd8\xff", _jpeg),
    "png": (rb"\x89PNG\r\n\x1a\n", _png),
    "webp": (rb"RIFF....WEBP", _webp),
    "tiff": (rb"II\*\0|MM\0\*", _tiff),
    "bmp": (rb"BM", _bmp),
    "gif": (rb"GIF8[79]a", _gif),
    "pnm": (rb"P[1-6]\s", _pnm),
}
