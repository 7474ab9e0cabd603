"""A quick look at a folder: every name, and the first bytes of a few files."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.data.image import IMAGE_SUFFIXES
from engine.data.tree import SPLITS, split_of_file, walk
from engine.errors import UserError

MOST_FOLDERS = 20_000  # that are listed; a set of so many is known by then
START = 2**16  # bytes of a file that are read, and as many of its end
SAMPLE = 12  # files of a kind that are opened
TEXTS = (".md", ".txt", ".pdf", ".rst", "")  # that lie beside a set and say nothing of it


class Reading(NamedTuple):
    """One way to read a folder."""

    option: str  # of the group dataset
    what: str  # in words
    values: dict[str, Any]  # its keys
    has_splits: bool = False  # whether its own files say which image is in which split

    @property
    def explicit(self) -> str:
        """The settings that name it, as a shell takes them."""
        keys = (f"dataset.{key}={shown(value)}" for key, value in self.values.items())
        return " ".join([f"dataset={self.option}", *map(_for_shell, keys)])


class Folder(NamedTuple):
    """The names in a folder."""

    folders: list[str]
    images: list[str]
    others: list[str]


class Look:
    """The names in a folder and below it, by the folder's path from `root` on ("" for itself).

    A folder that holds nothing but another one is passed through.
    """

    def __init__(self, root: Path) -> None:
        self.root = _inner(root)
        self.folders: dict[str, Folder] = {}
        for here, below, names in walk(self.root):
            place = "" if here == self.root else here.relative_to(self.root).as_posix()
            images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
            others = [name for name in names if not name.lower().endswith(IMAGE_SUFFIXES)]
            self.folders[place] = Folder(list(below), images, others)
            if len(self.folders) >= MOST_FOLDERS:
                break

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(len(folder.images) for folder in self.folders.values())

    def files(self, *suffixes: str) -> list[str]:
        """Paths from `root` on of the files with one of these suffixes (lower case), sorted."""
        return [
            f"{place}/{name}" if place else name
            for place, folder in sorted(self.folders.items())
            for name in folder.others
            if name.lower().endswith(suffixes)
        ]

    def annotations(self, files: Sequence[str]) -> Iterator[tuple[Any, str]]:
        """`dataset.annotations` and the names of its files.

        Files that are the splits of one set are together, a path a split; others each alone.
        """
        splits = {split_of_file(file): file for file in files}
        is_set = "train" in splits and None not in splits and len(splits) == len(files) > 1
        if is_set:
            yield {name: str(self.root / file) for name, file in splits.items()}, ", ".join(files)
            return
        for file in files:
            yield str(self.root / file), file

    def texts(self, files: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Beginning and end of some of the files, evenly chosen; those that open."""
        for file in sample(files):
            if text := ends(self.root / file):
                yield file, text


def sample(files: Sequence[str], most: int = SAMPLE) -> list[str]:
    """At most so many of them, evenly chosen."""
    step = max(1, -(-len(files) // most))
    return list(files[::step])


def ends(path: Path) -> str:
    """The beginning of a text file, and of a longer one its end; "" where it cannot be read."""
    try:
        if not path.is_file():
            return ""
        with open(path, "rb") as file:
            data = file.read(START)
            size = os.fstat(file.fileno()).st_size
            if size > START:
                file.seek(max(START, size - START))
                data += b"\n" + file.read(START)
    except OSError:
        return ""
    return data.decode(
        "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace"
    )


def shown(value: Any) -> str:
    """A value in Hydra's grammar, quoted where it needs that."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(shown, value)) + "]"
    text = "null" if value is None else str(value).lower() if value in (True, False) else str(value)
    if re.fullmatch(r"[\w./+-]+", text, re.ASCII) or not isinstance(value, str):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _for_shell(setting: str) -> str:
    """The setting, in double quotes where a shell would change it."""
    if re.fullmatch(r"[\w.=:/+-]+", setting, re.ASCII):
        return setting
    return '"' + re.sub(r'(["$`\\])', r"\\\1", setting) + '"'


def _inner(root: Path) -> Path:
    """The folder itself, or the one, not a split's, that alone is in it, again and again."""
    if not root.is_dir():
        raise UserError(f"dataset.root={root}: no such file or folder; check the path")
    for here, below, names in walk(root):
        plain = all(Path(name).suffix.lower() in TEXTS for name in names)
        if len(below) != 1 or not plain or below[0].lower() in SPLITS:
            return here
    return root
