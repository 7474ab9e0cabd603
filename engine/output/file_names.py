"""File names made of the names of images: any text gives one, and no two give the same."""

import re
import unicodedata
from collections.abc import Hashable, Iterable
from itertools import count

LONGEST = 255  # bytes of a name, on every common file system


class FileNames:
    """Gives each key a file name of its own, the same one whenever it is asked again.

    Names that differ only in case, or in how an accent is encoded, are one file on some systems, so
    a number distinguishes them.

    Args:
        suffix: of every name, ".jpg".
        taken: names of other files in the folder.
        free: bytes that are appended to the names elsewhere.
    """

    def __init__(self, suffix: str, taken: Iterable[str] = (), free: int = 0) -> None:
        self.suffix, self._longest = suffix, LONGEST - free
        self._names: dict[Hashable, str] = {}
        self._taken = set(map(_folded, taken))
        self._tried: dict[str, int] = {}  # the last number tried, of each text

    def of(self, key: Hashable, text: str) -> str:
        """Return the file name of a key, made of `text` when it is asked for first."""
        if key not in self._names:
            self._names[key] = self._unused(_plain(text))
        return self._names[key]

    def _unused(self, text: str) -> str:
        start = self._tried.get(_folded(text), 0) + 1
        for number in count(start):
            ending = f"-{number}{self.suffix}" if number > 1 else self.suffix
            name = _cut(text, self._longest - len(ending.encode())) + ending
            if _folded(name) not in self._taken:
                break
        self._tried[_folded(text)] = number
        self._taken.add(_folded(name))
        return name


def _plain(text: str) -> str:
    """Letters, digits, dots, dashes; _ for all else, and for dots and dashes at the start."""
    text = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", text))
    return re.sub(r"^[.-]+", "_", text) or "_"


def _cut(text: str, length: int) -> str:
    """The start of a text, at most so many bytes of UTF-8."""
    return text.encode()[:length].decode(errors="ignore")


def _folded(text: str) -> str:
    """Equal for texts that are the same but for case (Unicode 3.13, canonical caseless)."""
    decomposed = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFD", decomposed)
