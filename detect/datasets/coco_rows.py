"""Reads a COCO file in windows of a megabyte, so that one of any size needs little memory.

Python's own JSON reader makes an object of every number: 800 MB for as many boxes as COCO has to
train on. Rows that a program wrote look alike and need no objects: in a window where only digits
differ from row to row, all numbers are parsed at once, as arrays. Where rows differ in more, the
JSON reader parses them, with the same result. Polygons, which boxes do not need, are skipped in
such windows.
"""

import json
import os
import re
from collections.abc import Collection, Iterator
from io import FileIO
from typing import Any, NamedTuple

import numpy as np

from detect.datasets.digits import parse_decimals
from engine.regular_file import check_regular

WINDOW = 1 << 20  # bytes; its arrays then stay in the processor's cache
SPACE, COMMA = (b" ", b"\t", b"\n", b"\r"), re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
POLYGONS = re.compile(rb'"segmentation"[ \t\n\r]*:[][0-9.,\s-]*')
DIGITS = b"0123456789.-"
DECODER = json.JSONDecoder()


class Columns(NamedTuple):
    """Rows that hold only numbers, by key."""

    by_key: dict[str, np.ndarray]  # [n, m] float64, m numbers a row

    def rows(self) -> list[dict[str, Any]]:
        """The rows as dicts; a key with one number has it as a scalar."""
        lists = [(c[:, 0] if c.shape[1] == 1 else c).tolist() for c in self.by_key.values()]
        return [dict(zip(self.by_key, row, strict=True)) for row in zip(*lists, strict=True)]


Rows = list[Any] | Columns


def read(path: str, lists: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Key and value of the outermost object's items; those of `lists` in parts, as `Rows`.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is not one JSON object with different keys, or not JSON.
    """
    check_regular(path)
    with open(path, "rb", buffering=0) as file:
        yield from _Reader(file).items(lists)


class _Reader:
    """Parses a file from front to back; `position` is the next byte."""

    def __init__(self, file: FileIO) -> None:
        self.file, self.position = file, 0
        self.length = file.seek(0, os.SEEK_END)

    def _peek(self, size: int) -> bytes:
        """The next bytes, up to `size`."""
        self.file.seek(self.position)
        return self.file.read(size)

    def items(self, lists: Collection[str]) -> Iterator[tuple[str, Any]]:
        self._expect(b"{")
        keys = set()
        more = not self._take(b"}")
        while more:
            key = self._value()
            if not isinstance(key, str) or key in keys:
                raise ValueError(f"the key {key} is there twice, or is no text")
            keys.add(key)
            self._expect(b":")
            if key in lists and self._take(b"["):
                yield key, []  # so that an empty list is seen
                for rows in self._rows():
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

    def _rows(self) -> Iterator[Rows]:
        """The rows of the list that begins here, one window at a time."""
        templates, size = self._templates(), WINDOW
        more = not self._take(b"]")
        while more:
            self._skip()
            window = self._peek(size)
            window = window[: window.rfind(b"}") + 1]
            found = (template.columns(window) for template in templates)
            columns = next((c for c in found if c is not None), None)
            rows, used = (columns, len(window)) if columns else _objects(window)
            if rows:
                yield rows
                self.position += used
                size, more = WINDOW, self._take(b",")
                if not more:
                    self._expect(b"]")
            elif self.position + size < self.length:
                size *= 4  # a row longer than the window
            else:
                raise ValueError(f"no row at byte {self.position}")

    def _templates(self) -> "list[RowTemplate]":
        """Templates of the first row: one of all of it, one without its polygons."""
        self._skip()
        window = self._peek(WINDOW)
        text = window.decode("latin-1")
        try:
            row, end = DECODER.raw_decode(text)
        except ValueError:
            return []
        comma = COMMA.match(text, end)
        if not isinstance(row, dict) or not comma:
            return []
        separator = comma[0].encode()
        made = (RowTemplate(window[:end], separator, row, drop) for drop in (False, True))
        return [template for template in made if template.fits]


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


class RowTemplate:
    """Rows that differ from the first only in digits; `drop_polygons` leaves polygons out."""

    def __init__(
        self, first: bytes, comma: bytes, row: dict[str, Any], drop_polygons: bool
    ) -> None:
        self.drop_polygons, self.comma = drop_polygons, comma
        text = self._text(first)
        self.bare = text.translate(None, DIGITS)
        if drop_polygons:
            row = {key: value for key, value in row.items() if key != "segmentation"}
        widths = {key: _width(value) for key, value in row.items()}
        ends = np.cumsum([w or 0 for w in widths.values()])
        self.places = {
            k: slice(e - (w or 0), e) for (k, w), e in zip(widths.items(), ends, strict=True)
        }
        self.width = sum(w or 0 for w in widths.values())
        found = parse_decimals(text)  # a digit in a key would count as a number
        same = found is not None and len(found) == self.width > 0
        self.fits = same and None not in widths.values()

    def columns(self, window: bytes) -> Columns | None:
        """The window's numbers by key; None where it does not match this template."""
        text = self._text(window)
        bare = text.translate(None, DIGITS)
        count = (len(bare) + len(self.comma)) // (len(self.bare) + len(self.comma))
        if bare != self.comma.join([self.bare] * count):
            return None
        found = parse_decimals(text)
        if found is None or len(found) != count * self.width:
            return None
        table = found.reshape(count, self.width)
        return Columns({key: table[:, place] for key, place in self.places.items()})

    def _text(self, window: bytes) -> bytes:
        return POLYGONS.sub(b"", window) if self.drop_polygons else window


def _width(value: Any) -> int | None:
    """How many numbers a value holds; None where it holds anything else."""
    if isinstance(value, list):
        widths = [_width(item) for item in value]
        return None if None in widths else sum(w for w in widths if w is not None)
    return 1 if isinstance(value, int | float) and not isinstance(value, bool) else None
