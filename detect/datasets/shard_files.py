"""Which tars a set in shards has, of which split; and where the index of each is."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from engine.data import byte_ranges, shard_build, shard_index
from engine.data.braces import expand
from engine.data.shard_index import SUFFIX, SUMMARY, TarIndex
from engine.errors import UserError
from engine.whole_file import write_whole

TAR = re.compile(r"(.+?)-?\d*\.tar")


class Tars(NamedTuple):
    """The tars of a set."""

    name: str  # of the set, for messages
    places: dict[str, list[str]]  # by split; of a set in one piece by ""
    images: dict[str, int]  # of a tar, where it is known
    classes: list[str] | None = None  # in the order of the labels
    categories: list[int | float | str] | None = None  # the id of each class in predictions files


def find(root: str | None, urls: Any) -> Tars:
    """The tars that `dataset.root` or `dataset.urls` names.

    Raises:
        UserError: neither or both is set, there is no tar, or a pattern is wrong.
    """
    if (root is None) == (urls is None):
        raise UserError("dataset.root=FOLDER or dataset.urls=PATTERN: set one of them")
    if root is None:
        return _of_urls(urls)
    content = byte_ranges.read_whole(byte_ranges.join(root, SUMMARY))
    if content is not None:
        return _of_summary(root, content)
    if byte_ranges.scheme(root):
        raise UserError(
            f"dataset.root={root}: no {SUMMARY} there, which names the tars; name them in "
            "dataset.urls, such as dataset.urls=URL/train-{000..099}.tar"
        )
    return _of_folder(root)


def _of_urls(urls: Any) -> Tars:
    if isinstance(urls, Mapping):
        places = {str(split): _expanded(value) for split, value in urls.items()}
        return Tars("dataset.urls", places, {})
    return Tars("dataset.urls", {"": _expanded(urls)}, {})


def _expanded(value: Any) -> list[str]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
        raise UserError(f"dataset.urls={value}: expected a pattern, a list, or either by split")
    places = [place for pattern in patterns for place in expand(pattern)]
    if not places:
        raise UserError("dataset.urls: no tar in it")
    place, times = Counter(places).most_common(1)[0]
    if times > 1:
        raise UserError(f"dataset.urls names {place} {times} times")
    return places


def _of_folder(root: str) -> Tars:
    folder = byte_ranges.local_path(root)
    if not folder.is_dir():
        raise UserError(f"dataset.root={root}: no such folder; check the path")
    places: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.tar")):
        found = TAR.fullmatch(path.name)
        places.setdefault(found[1] if found else path.stem, []).append(str(path))
    if not places:
        raise UserError(
            f"dataset.root={root}: no *.tar in it; expected tars such as train-000000.tar, which "
            "python -m engine.shard writes"
        )
    return Tars(root, places, {})


def _of_summary(root: str, content: bytes) -> Tars:
    try:
        found = json.loads(content)
        rows = [(split, row) for split, rows in found["splits"].items() for row in rows]
        tars = [(split, byte_ranges.join(root, row["tar"]), row["images"]) for split, row in rows]
        places: dict[str, list[str]] = {split: [] for split in found["splits"]}
        for split, place, _ in tars:
            places[split].append(place)
        images = {place: int(count) for _, place, count in tars}
        return Tars(root, places, images, found["classes"], found.get("categories"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{byte_ranges.join(root, SUMMARY)}: not as engine.shard writes it; remove it, or "
            "write the shards again"
        ) from None


def open_index(place: str, folder: str | None) -> tuple[TarIndex, bool]:
    """The index of a tar, and whether it was made from its headers.

    It is read beside the tar or in `folder`; where it is of another size than the tar it is made.
    """
    size = byte_ranges.size(place)  # a missing file is named here
    kept = None if folder is None else _kept(place, folder)
    for at in [place + SUFFIX, *([] if kept is None else [str(kept)])]:
        content = byte_ranges.read_whole(at)
        index = None if content is None else shard_index.load(content)
        if index is not None and size in (None, index.size):
            return index, False
    index = shard_build.build(place)
    if kept is not None and not index.defects:
        write_whole(kept, shard_index.dump(index))
    return index, True


def _kept(place: str, folder: str) -> Path:
    """Where a folder keeps the index of a tar: by its name, and a digest of its place."""
    base, path = byte_ranges.local_path(folder), place.rstrip("/").rpartition("/")[2]
    if not byte_ranges.scheme(place):
        local = byte_ranges.local_path(place).resolve()
        if local.parent == base.resolve():
            return base / f"{local.name}{SUFFIX}"
        place = str(local)
    digest = hashlib.blake2b(place.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return base / f"{digest}-{Path(path).name}{SUFFIX}"
