"""Files that are written whole or not at all.

The content goes to a file beside the target, which it replaces when it is complete: a full disk, a
kill or a second writer leaves the old file or the new one, never a part. No import of torch here.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

from engine.errors import UserError

PREFIX = ".onelook-"  # of the files that are not complete yet


class NotWritten(UserError, OSError):
    """A file cannot be written; an older one of that name is unchanged."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot write {path}: {reason}")
        self.path, self.reason = Path(path), reason


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file, and its folder if there is none; text as UTF-8, what UTF-8 lacks escaped.

    Raises:
        NotWritten: naming the file and the reason.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    with whole_file(path, "wb") as file:
        file.write(content)


@contextmanager
def whole_file(path: str | Path, mode: str = "w", durable: bool = False) -> Iterator[IO[Any]]:
    """Open a file that replaces `path` where the `with` block ends without an error.

    Args:
        path: its folder is made if there is none.
        mode: "w" for text in UTF-8, or "wb".
        durable: wait until the disk has it, so that a power failure does not undo it.

    Raises:
        NotWritten: naming the file and the reason.
    """
    encoding = None if "b" in mode else "utf-8"
    with replacing(path) as temporary, open(temporary, mode, encoding=encoding) as file:
        yield file
        file.flush()
        if durable:
            os.fsync(file.fileno())
    if durable:
        _sync(Path(path).parent)


@contextmanager
def replacing(path: str | Path, suffix: str = "") -> Iterator[Path]:
    """A path of its own beside `path`; the file written there replaces `path` after the block.

    Args:
        path: its folder is made if there is none.
        suffix: of the temporary name, for writers that look at it.

    Raises:
        NotWritten: naming the file and the reason.
    """
    path = Path(path)
    temporary = path.with_name(f"{PREFIX}{secrets.token_hex(8)}{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and _is_of(error, temporary, path.parent):
            raise NotWritten(path, reason(error)) from error
        raise


def _is_of(error: OSError, *paths: Path) -> bool:
    """Whether an error is of one of these files, or of a file already open, which has no name."""
    return not isinstance(error, NotWritten) and error.filename in (None, *map(str, paths))


def reason(error: OSError) -> str:
    """Return what the file system reported, "No space left on device"."""
    return error.strerror or str(error)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed writer left in a folder that nobody writes to now."""
    for path in folder.glob(f"{PREFIX}*"):
        path.unlink(missing_ok=True)


class WholeText:
    """A text file that grows by parts: whole after `close`, not there after an error.

    As a context manager it is closed at the end of the block, and discarded by an error in it.
    """

    def __init__(self, path: str | Path) -> None:
        self._stack = ExitStack()
        self.file = self._stack.enter_context(whole_file(path))

    def end(self) -> str:
        """Return what completes the file."""
        return ""

    def close(self) -> None:
        """Complete the file; it takes its name now."""
        self.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        with self._stack:
            if error is not None:
                raise error  # for the file, which is removed
            self.file.write(self.end())
