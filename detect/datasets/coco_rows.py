"""Reads a COCO file in windows of a megabyte, so that one of any size needs little memory.

Python's own JSON reader makes a dict of every row: 800 MB for as many boxes as COCO has to train
on. A window whose rows are all as COCO has them becomes columns (`detect.datasets.coco_columns`);
another is read as JSON, with the same result.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from typing import Any

from engine.regular_file import check_regular

WINDOW = 1 << 20  # bytes; its rows then stay in the processor's cache
SPACE, COMMA = (b" ", b"\t", b"\n", b"\r"), re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
DECODER = json.JSONDecoder()


Reader = Callable[[bytes], Any]  # of a JSON list: its rows as columns, None where one is odd


def read(path: str, readers: Mapping[str, Reader | None]) -> Iterator[tuple[str, Any]]:
    """Key and value of the outermost object's items; the lists of `readers` in parts.

    A part is a list of rows, or what the list's reader, if it has one, makes of them.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is not one JSON object with different keys, or not JSON.
    """
    check_regular(path)
    with open(path, "rb", buffering=0) as file:
        yield from _Reader(file).items(readers)


class _Reader:
    """Parses a file from front to back; `position` is the next byte."""

    def __init__(self, file: FileIO) -> None:
        self.file, self.position = file, 0
        self.length = file.seek(0, os.SEEK_END)

    def _peek(self, size: int) -> bytes:
        """The next bytes, up to `size`."""
        self.file.seek(self.position)
        return self.file.read(size)

    def items(self, readers: Mapping[str, Reader | None]) -> Iterator[tuple[str, Any]]:
        self._expect(b"{")
        keys = set()
        more = not self._take(b"}")
        while more:
            key = self._value()
            if not isinstance(key, str) or key in keys:
                raise ValueError(f"the key {key} is there twice, or is no text")
            keys.add(key)
            self._expect(b":")
            if key in readers and self._take(b"["):
                yield key, []  # so that an empty list is seen
                for rows in self._rows(readers[key]):
                    yield key, rows
            else:
                yield key, self._value()
            more = self._take(b",")
        if keys:
            self._expect(b"}")
        self._skip()
        if self.position < self.length:
            raise ValueError("more behind the outermost object")

    def _skip(self) -> None:
        while (text := self._peek(64)).startswith(SPACE):
            self.position += len(text) - len(text.lstrip(b" \t\n\r"))

    def _take(self, mark: bytes) -> bool:
        """Whether the next character is `mark`; steps over it."""
        self._skip()
        found = self._peek(1) == mark
        self.position += found
        return found

    def _expect(self, mark: bytes) -> None:
        if not self._take(mark):
            raise ValueError(f"expected {mark} at byte {self.position}")

    def _value(self) -> Any:
        """Parse the next value."""
        self._skip()
        size = 4096
        while True:
            # Of one byte a character, so that places agree; no JSON is made of others.
            text = self._peek(size).decode("latin-1")
            whole = self.position + size >= self.length
            try:
                _, end = DECODER.raw_decode(text)
                if end < len(text) or whole:
                    break
            except ValueError:
                if whole:
                    raise
            size *= 4
        value = json.loads(self._peek(end))
        self.position += end
        return value

    def _rows(self, reader: Reader | None) -> Iterator[Any]:
        """The rows of the list that begins here, one window at a time."""
        size = WINDOW
        more = not self._take(b"]")
        while more:
            self._skip()
            window = self._peek(size)
            window = window[: window.rfind(b"}") + 1]
            columns = reader(b"[" + window + b"]") if reader and window else None
            rows, used = _objects(window) if columns is None else (columns, len(window))
            if len(rows):
                yield rows
                self.position += used
                size, more = WINDOW, self._take(b",")
                if not more:
                    self._expect(b"]")
            elif self.position + size < self.length:
                size *= 4  # a row longer than the window
            else:
                raise ValueError(f"no row at byte {self.position}")


def _objects(window: bytes) -> tuple[list[Any], int]:
    """The complete values at the beginning of a window, and how many bytes they take."""
    try:
        return json.loads(b"[" + window + b"]"), len(window)
    except ValueError:  # it ends within a row, or behind the list
        text, rows, at, end = window.decode("utf-8"), [], 0, 0
    while True:
        try:
            row, end = DECODER.raw_decode(text, at)
        except ValueError:
            break
        rows.append(row)
        if not (comma := COMMA.match(text, end)):
            break
        at = comma.end()
    return rows, len(text[:end].encode("utf-8"))
