"""The lock of a run folder: an flock on `run.lock`, dropped by the system with its process.

The file is also a record: who holds the folder, and what in it the run made.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.console import info
from engine.errors import UserError
from engine.whole_file import NotWritten, reason

LOCK = "run.lock"
_held: set[int] = set()  # descriptors of locks


def _close_in_worker() -> None:
    """A worker that outlives its killed run for a moment must not keep the run's lock."""
    for number in _held:
        os.close(number)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_worker)


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold the lock of a folder inside the `with` block; its descriptor.

    Raises:
        UserError: another process holds it.
        NotWritten: the folder takes no file.
    """
    try:
        number = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise NotWritten(folder / LOCK, reason(error)) from error
    _held.add(number)
    try:
        _lock(folder, number)
        yield number
    finally:
        _held.discard(number)
        os.close(number)


def _lock(folder: Path, number: int) -> None:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(_in_use(folder, read(number))) from None
    except OSError as error:  # some network file systems have no locks
        info(f"{folder}: cannot be locked ({error.strerror}); start no second run there")


def _in_use(folder: Path, holder: dict[str, Any]) -> str:
    who = f"process {holder.get('pid', 'unknown')} on host {holder.get('host', 'unknown')}"
    return f"{folder}: {who} trains there; wait for its end, or set another hydra.run.dir"


def is_held(folder: Path) -> bool:
    """Whether a living run holds the folder."""
    try:
        number = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(number)
    return False


def read(lock: int) -> dict[str, Any]:
    """The record in the lock's file; empty where there is none."""
    try:
        found = json.loads(os.pread(lock, 100_000, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def write(lock: int, record: dict[str, Any]) -> None:
    """Replace the record in the lock's file.

    Raises:
        NotWritten: the file system refuses.
    """
    content = json.dumps(record).encode() + b"\n"
    try:
        os.pwrite(lock, content, 0)
        os.ftruncate(lock, len(content))
    except OSError as error:
        raise NotWritten(LOCK, reason(error)) from error
