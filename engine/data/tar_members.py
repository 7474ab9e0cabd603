"""The members of a tar by its headers alone: POSIX ustar and pax, and GNU's long names.

Nothing is unpacked: of each member there is the name, the place and the size.
"""

import re
import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = tarfile.BLOCKSIZE
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
LONG = 2**20  # bytes of a header of names
PAX = re.compile(rb"(\d+) ([^=]+)=")


class Member(NamedTuple):
    """A file in a tar."""

    name: str
    offset: int  # of its first byte
    size: int  # bytes


class CutTar(ValueError):
    """A tar that is cut or damaged, and where; `whole`: whether the member before it is whole."""

    def __init__(self, reason: str, whole: bool) -> None:
        super().__init__(reason)
        self.whole = whole


class Window:
    """Reads a file by ranges of at least `block` bytes; what lies in the last one is at hand.

    Args:
        read: bytes from a start on of a length, fewer at the end.
        block: bytes; larger where a request takes long.
    """

    def __init__(self, read: Callable[[int, int], bytes], block: int) -> None:
        self.read, self.block = read, block
        self.start, self.data = 0, b""

    def get(self, start: int, length: int) -> bytes:
        """Bytes from `start` on; fewer where the file ends."""
        if not self.start <= start <= start + length <= self.start + len(self.data):
            self.start, self.data = start, self.read(start, max(length, self.block))
        at = start - self.start
        return self.data[at : at + length]


def members(window: Window) -> Iterator[Member]:
    """Every file of a tar, in its order.

    Raises:
        CutTar: it ends without the empty block of a whole tar, or a header is damaged.
    """
    at, end, last = 0, 0, ""
    long: dict[str, str] = {}  # what headers before a member say of it
    while (block := window.get(at, BLOCK)) != bytes(BLOCK):
        if len(block) < BLOCK:
            whole = not end or window.get(end - 1, 1) != b""
            where = f" {'behind' if whole else 'in'} '{last}'" if last else ""
            raise CutTar(f"it is cut short{where}", whole)
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            where = f"behind '{last}' (byte {at})" if last else "at its beginning: no tar?"
            raise CutTar(f"no header of a tar stands {where}", bool(last)) from None
        data, size = at + BLOCK, info.size
        if info.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            long |= _long(info, window.get(data, min(size, LONG)))
        elif info.type in FILES:
            last, size = long.get("path", info.name), int(long.get("size", size))
            end = data + size
            yield Member(last, data, size)
        if info.type not in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
            long = {}
        at = data + -(-size // BLOCK) * BLOCK


def _long(info: tarfile.TarInfo, data: bytes) -> dict[str, str]:
    """The name, and the size, that a header of GNU's or pax's gives the next member."""
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    found, at = {}, 0
    while row := PAX.match(data, at):
        end = at + int(row[1])
        found[row[2].decode()] = data[row.end() : end - 1].decode("utf-8", "surrogateescape")
        if end <= row.end():
            break
        at = end
    return {key: found[key] for key in ("path", "size") if key in found}


def stated_size(header: bytes) -> int | None:
    """The size that the header in front of a member states; None where there is no header."""
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").size
    except tarfile.HeaderError:
        return None
