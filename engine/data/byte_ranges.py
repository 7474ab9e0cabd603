"""Reads parts of files by their place: of this machine's, of a web server, of an object store.

A place is a path, or a URL: http, https, file, or what `obstore` opens (s3, gs, az ...).
Every function works in threads, and in processes that were forked.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.data import http_ranges, object_ranges
from engine.errors import UserError
from engine.regular_file import check_regular

WEB = ("http", "https")


def scheme(place: str) -> str:
    """How a place is read: "http", "s3" ...; "" for a file of this machine."""
    found = place.partition("://")[0].lower() if "://" in place else ""
    return "" if found == "file" else found


def local_path(place: str) -> Path:
    """The path of a file of this machine."""
    if place.lower().startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return Path(place).expanduser()


def join(place: str, name: str) -> str:
    """The place of a file in a folder."""
    return f"{place.rstrip('/')}/{name}" if scheme(place) else str(local_path(place) / name)


def read_range(place: str, start: int, length: int) -> bytes:
    """Bytes from `start` on; fewer than `length` where the file ends.

    Raises:
        UserError: naming the place and the reason.
    """
    how = scheme(place)
    if how in WEB:
        return http_ranges.read(place, start, length)
    if how:
        return object_ranges.read(place, start, length)
    return _read_local(place, start, length)


@contextmanager
def _local(place: str) -> Iterator[Path]:
    """The path of a regular file; an error of the system in the `with` block names it."""
    path = local_path(place)
    try:
        check_regular(path)
        yield path
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; check the path") from None


def _read_local(place: str, start: int, length: int) -> bytes:
    with _local(place) as path, open(path, "rb", buffering=0) as file:
        file.seek(start)
        parts, missing = [], length
        while missing and (part := file.read(missing)):
            parts.append(part)
            missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_whole(place: str) -> bytes | None:
    """All bytes of a file; None where there is none of this name, or none that may be seen.

    Raises:
        UserError: naming the place and the reason.
    """
    how = scheme(place)
    if how in WEB:
        return http_ranges.read_whole(place)
    if how:
        return object_ranges.read_whole(place)
    path = local_path(place)
    return _read_local(place, 0, os.path.getsize(path)) if path.is_file() else None


def size(place: str) -> int | None:
    """Bytes of a file of this machine; None of another place, where the answer takes a request."""
    if scheme(place):
        return None
    with _local(place) as path:
        return os.path.getsize(path)
