"""Opens the files that a user names: regular files only, as a pipe or a device may never end.

Every fault is an OSError whose `strerror` says what was got, so that a reader handles one kind.
"""

import errno
import io
import os
import stat
from typing import BinaryIO

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular(path: str | os.PathLike[str], largest: int | None = None) -> None:
    """Refuse what is no regular file, or a link to one, or has more than `largest` bytes.

    Raises:
        OSError: what it is instead, or why it cannot be looked at.
    """
    try:
        status = os.stat(path)
    except ValueError:  # of a name with a NUL, or with half a surrogate pair
        raise OSError(errno.EINVAL, "no file can have this name") from None
    if not stat.S_ISREG(status.st_mode):
        got = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"expected a regular file, got {got}")
    if largest is not None and status.st_size > largest:
        reason = f"{status.st_size} bytes, more than the {largest} that such a file may have"
        raise OSError(errno.EFBIG, reason)


def open_regular(path: str | os.PathLike[str], largest: int | None = None) -> BinaryIO:
    """A regular file, open for its bytes; raises as `check_regular`.

    One that states no bytes is read as empty: those of /proc state none and may never end.
    """
    check_regular(path, largest)
    return open(path, "rb") if os.path.getsize(path) else io.BytesIO()


def read_regular(path: str | os.PathLike[str], largest: int) -> bytes:
    """The bytes of a regular file; raises as `check_regular`."""
    with open_regular(path, largest) as file:
        return file.read()


def read_start(path: str | os.PathLike[str], length: int = 4096) -> bytes:
    """The first bytes of a regular file, to see of what kind it is; raises as `check_regular`."""
    with open_regular(path) as file:
        return file.read(length)


def is_file_name(name: str) -> bool:
    """Whether a file can have this name or path; one with a NUL or half a surrogate pair cannot."""
    try:
        return bool(name) and b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False
