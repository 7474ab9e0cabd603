"""A COCO file in windows of a megabyte, so that one of any size is read in little memory.

Python's own JSON reader makes an object of every number: 3 seconds and 600 MB for the training set
of 2017. Rows written alike, which a program's all are, need no objects: in a window where nothing
but digits differs from row to row, all numbers are read at once, as arrays. Where rows differ in
more, JSON is read as JSON, with the same result. Polygons, on which no box depends, are passed over
unread in such windows.
"""

import json
import mmap
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

WINDOW = 1 << 20  # bytes; its arrays then stay in the processor's cache
PAGE = mmap.ALLOCATIONGRANULARITY
SPACE, COMMA = re.compile(rb"[ \t\n\r]*"), re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
POLYGONS = re.compile(rb'"segmentation"[ \t\n\r]*:[][0-9.,\s-]*')
DIGITS = b"0123456789.-"
NO_NUMBER = bytes(c for c in range(256) if c not in DIGITS + b",")
EXACT = 2**53  # up to here every whole number is a float64
POWERS = np.array([10**k for k in range(18)] + [0], np.int64)  # the last stands for a comma
DECODER = json.JSONDecoder()


class Columns(NamedTuple):
    """Rows of numbers alone, by key."""

    of: dict[str, np.ndarray]  # [n, m] float64, m numbers a row

    def rows(self) -> list[dict[str, Any]]:
        """The rows themselves; one number stands for itself."""
        lists = [(c[:, 0] if c.shape[1] == 1 else c).tolist() for c in self.of.values()]
        return [dict(zip(self.of, row, strict=True)) for row in zip(*lists, strict=True)]


Rows = list[Any] | Columns


def read(path: str, lists: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Key and value of the outermost object's items; those of `lists` in parts, as `Rows`.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is not one JSON object with different keys, or not JSON.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield from _Reader(data).items(lists)


class _Reader:
    """Walks through a file, from one place in it to the next."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def items(self, lists: Collection[str]) -> Iterator[tuple[str, Any]]:
        self._expect(b"{")
        keys = set()
        more = not self._take(b"}")
        while more:
            key = self._value()
            if not isinstance(key, str) or key in keys:
                raise ValueError(f"the key {key} stands there twice, or is none")
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
        if self.at < len(self.data):
            raise ValueError("more behind the outermost object")

    def _skip(self) -> None:
        found = SPACE.match(self.data, self.at)
        self.at = found.end() if found else self.at

    def _take(self, mark: bytes) -> bool:
        """Step over a character, if it is the next."""
        self._skip()
        found = self.data[self.at : self.at + 1] == mark
        self.at += found
        return found

    def _expect(self, mark: bytes) -> None:
        if not self._take(mark):
            raise ValueError(f"expected {mark} at byte {self.at}")

    def _value(self) -> Any:
        """Any value, read at once."""
        self._skip()
        size = 4096
        while True:
            # Of one byte a character, so that places agree; no JSON is made of others.
            text = self.data[self.at : self.at + size].decode("latin-1")
            whole = self.at + size >= len(self.data)
            try:
                _, end = DECODER.raw_decode(text)
                if end < len(text) or whole:
                    break
            except ValueError:
                if whole:
                    raise
            size *= 4
        self.at += end
        return json.loads(self.data[self.at - end : self.at])

    def _rows(self) -> Iterator[Rows]:
        """The rows of the list that begins here, a window at a time."""
        forms, size = self._forms(), WINDOW
        more = not self._take(b"]")
        while more:
            self._skip()
            window = self.data[self.at : self.at + size]
            window = window[: window.rfind(b"}") + 1]
            found = (form.columns(window) for form in forms)
            columns = next((c for c in found if c is not None), None)
            rows, used = (columns, len(window)) if columns else _objects(window)
            if rows:
                yield rows
                self.at += used
                size, more = WINDOW, self._take(b",")
                if not more:
                    self._expect(b"]")
                self.data.madvise(mmap.MADV_DONTNEED, 0, self.at // PAGE * PAGE)
            elif self.at + size < len(self.data):
                size *= 4  # a row longer than the window
            else:
                raise ValueError(f"no row at byte {self.at}")

    def _forms(self) -> "list[_Form]":
        """How rows may look, by the first: as it is, or without its polygons."""
        self._skip()
        window = self.data[self.at : self.at + WINDOW]
        text = window.decode("latin-1")
        try:
            row, end = DECODER.raw_decode(text)
        except ValueError:
            return []
        comma = COMMA.match(text, end)
        if not isinstance(row, dict) or not comma:
            return []
        made = (_Form(window[:end], comma[0].encode(), row, cut) for cut in (False, True))
        return [form for form in made if form.fits]


def _objects(window: bytes) -> tuple[list[Any], int]:
    """The whole values at the beginning of a window, and the bytes they take."""
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


class _Form:
    """Rows that differ in digits alone from the first, apart from polygons where they are cut."""

    def __init__(self, first: bytes, comma: bytes, row: dict[str, Any], cut: bool) -> None:
        self.cut, self.comma = cut, comma
        text = self._text(first)
        self.bare = text.translate(None, DIGITS)
        row = {key: value for key, value in row.items() if not (cut and key == "segmentation")}
        widths = {key: _width(value) for key, value in row.items()}
        ends = np.cumsum([w or 0 for w in widths.values()])
        self.places = {
            k: slice(e - (w or 0), e) for (k, w), e in zip(widths.items(), ends, strict=True)
        }
        self.width = sum(w or 0 for w in widths.values())
        found = numbers(text)  # a digit in a key would count as a number
        same = found is not None and len(found) == self.width > 0
        self.fits = same and None not in widths.values()

    def columns(self, window: bytes) -> Columns | None:
        """The window's numbers by key, or None where it is not of this form."""
        text = self._text(window)
        bare = text.translate(None, DIGITS)
        count = (len(bare) + len(self.comma)) // (len(self.bare) + len(self.comma))
        if bare != self.comma.join([self.bare] * count):
            return None
        found = numbers(text)
        if found is None or len(found) != count * self.width:
            return None
        table = found.reshape(count, self.width)
        return Columns({key: table[:, place] for key, place in self.places.items()})

    def _text(self, window: bytes) -> bytes:
        return POLYGONS.sub(b"", window) if self.cut else window


def _width(value: Any) -> int | None:
    """How many numbers a value is; None where it is something else too."""
    if isinstance(value, list):
        widths = [_width(item) for item in value]
        return None if None in widths else sum(w for w in widths if w is not None)
    return 1 if isinstance(value, int | float) and not isinstance(value, bool) else None


def numbers(text: bytes) -> np.ndarray | None:
    """All numbers of a text, [n] float64, as `float` reads them; None where one is malformed.

    Numbers are digits between other bytes, without exponents and of at most 18 digits.
    """
    text = text.translate(None, NO_NUMBER) + b",,"  # so that there is a byte after each lead
    each = np.frombuffer(text, np.uint8)
    end = np.flatnonzero(each == ord(","))
    start = np.concatenate([[0], end[:-1] + 1])
    start, end = start[end > start], end[end > start]
    minus = each[start] == ord("-")
    lead = start + minus  # the first digit
    dot = np.flatnonzero(each == ord("."))
    owner = np.searchsorted(end, dot)  # the number that a dot is of
    decimals = np.zeros(len(end), np.int64)
    decimals[owner] = end[owner] - dot - 1
    count = end - lead - (decimals > 0)
    zero = (each[lead] == ord("0")) & (lead + 1 < end) & (each[lead + 1] != ord("."))
    good = (
        (each == ord("-")).sum() == minus.sum()
        and (np.diff(owner) > 0).all()  # one dot a number
        and (dot > lead[owner]).all()
        and (decimals[owner] > 0).all()
        and (count > 0).all()
        and (count < len(POWERS)).all()
        and not zero.any()  # JSON has no 007
    )
    if not good:
        return None
    whole = _whole(text.translate(None, b".-"))
    value = whole / 10.0**decimals  # rounded once, as both are exact
    value[minus] *= -1
    long = np.flatnonzero(whole >= EXACT)
    value[long] = [float(text[start[i] : end[i]]) for i in long]
    return value


def _whole(text: bytes) -> np.ndarray:
    """The numbers [n] int64 of digits and commas, with one at the end; nothing is no number."""
    each = np.frombuffer(text, np.uint8)
    comma = np.flatnonzero(each == ord(",")).astype(np.int32)
    length = np.diff(comma, prepend=np.int32(-1))
    # How many digits follow each digit up to the comma; of the comma -1, where POWERS has a 0.
    place = np.repeat(comma, length) - np.arange(1, len(each) + 1, dtype=np.int32)
    part = POWERS[place] * (each - ord("0"))
    first = comma - length + 1
    return np.add.reduceat(part, first[length > 1]) if len(part) > len(comma) else part[:0]
