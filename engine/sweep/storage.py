"""What a search keeps: Optuna's storage, and in the sweep's folder who works on which trial.

Optuna's storage is the queue, too: any number of sweepers, on any number of machines, take trials
from it. In `.study/` of the folder each of them holds a lock while it lives, so that another one
goes on with the trials of one that died.
"""

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

SILENT = 180.0  # seconds; a sweeper on another machine that is silent for longer is dead


def open_storage(url: str | None, folder: Path) -> BaseStorage | str:
    """Return Optuna's storage: a database by its URL, else a journal file.

    Args:
        url: of a database; or the path of a journal; None for study.log in the folder.
        folder: of the sweep.
    """
    if url and "://" in url:
        return url
    path = Path(url or folder / "study.log").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileOpenLock(str(path))
    storage = JournalFileBackend(str(path), lock)
    lock.acquire()
    try:
        _mend(path)
    finally:
        lock.release()
    return JournalStorage(storage)


def _mend(path: Path) -> None:
    """Cut off a last line that a machine which lost its power left half written."""
    with open(path, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file inside the `with` block, after all others."""
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


class Sweepers:
    """Who works on a study: a lock file each, held while its process lives.

    Args:
        folder: of the sweep, which all sweepers that share it see.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / ".study"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.me = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Be one of them inside the `with` block."""
        with _exclusive(self.folder / self.me):
            yield

    def leave(self) -> None:
        """Forget this sweeper, which has no trial any more."""
        (self.folder / self.me).unlink(missing_ok=True)

    def alone(self) -> AbstractContextManager[None]:
        """A context in which no other sweeper of this folder chooses its next trial."""
        return _exclusive(self.folder / "choosing")

    def beat(self) -> None:
        """Show machines that do not see this one's locks that it lives."""
        os.utime(self.folder / self.me)

    def is_alive(self, name: str) -> bool:
        """Whether a sweeper works still; of one with another folder that is not known: yes."""
        path = self.folder / name
        if not path.exists() or _is_locked(path):
            return True
        if name.startswith(f"{socket.gethostname()}-"):
            return False
        self.beat()  # so that both times are of one clock, the file system's
        return (self.folder / self.me).stat().st_mtime - path.stat().st_mtime < SILENT


def _is_locked(path: Path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
