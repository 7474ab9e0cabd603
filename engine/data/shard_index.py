"""The index of a WebDataset tar: where each image lies, and what is true of it, in flat arrays.

It stands beside its tar as NAME.tar.index, a file of numpy's (.npz). Of a tar without one
`engine.data.shard_build` makes it.
"""

import io
import json
import os
import zipfile
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np

from engine.data.index import Index, file_names, unique_stems

SUFFIX = ".index"  # behind the tar's name
SUMMARY = "shards.json"  # of a set: its classes, and the tars of each split
VERSION = 1
JOINED = ("files", "labels", "shard", "offset", "length")  # columns that every tar has


@dataclass
class ShardIndex(Index):
    """An index of images in tars; image i is `length[i]` bytes of tar `shard[i]`."""

    shard: np.ndarray | None = None  # [N] int32
    offset: np.ndarray | None = None  # [N] int64
    length: np.ndarray | None = None  # [N] int64

    def take(self, images: np.ndarray) -> Self:
        """The images at these rows, in their order."""
        own = {n: getattr(self, n)[images] for n in ("shard", "offset", "length")}
        return replace(super().take(images), **own)


class TarIndex(NamedTuple):
    """What is in one tar."""

    images: ShardIndex  # labels are places in `names`
    names: list[str | int]  # of classes, or numbers of classes
    stated: bool  # whether the members give each image its id
    defects: list[tuple[str, str]]  # the key of a sample or the name of a member, what is wrong
    size: int  # bytes of the tar


def dump(index: TarIndex) -> bytes:
    """The content of an index file."""
    meta = {"version": VERSION, "short": index.images.short, **index._asdict()}
    del meta["images"]
    columns = {f.name: getattr(index.images, f.name) for f in fields(ShardIndex)}
    arrays: Any = {n: value for n, value in columns.items() if isinstance(value, np.ndarray)}
    file = io.BytesIO()
    np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
    return file.getvalue()


def load(data: bytes) -> TarIndex | None:
    """The index in a file's content; None where it is none, or of another version."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        meta = json.loads(arrays.pop("meta").tobytes())
        if meta.pop("version") != VERSION:
            return None
        images = ShardIndex(short=meta.pop("short"), **arrays)
        return TarIndex(images, **{**meta, "defects": [(k, why) for k, why in meta["defects"]]})
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile):
        return None


def merge(parts: list[ShardIndex], stated: bool) -> ShardIndex:
    """One index of the images of several tars.

    Args:
        parts: at least one.
        stated: whether each image states its id; else names are ids, with their tar's number in
            front of those that repeat.
    """
    first = np.cumsum(np.concatenate([[0], *(np.diff(part.first) for part in parts)]))
    columns: Any = {n: np.concatenate([getattr(p, n) for p in parts]) for n in JOINED}
    size = _filled([p.size for p in parts], [(len(p), 2) for p in parts], np.int32)
    ignore = _filled([p.ignore for p in parts], [(len(p.labels),) for p in parts], bool)
    boxes = _filled([p.boxes for p in parts], [(len(p.labels), 4) for p in parts], np.float32)
    merged = ShardIndex(first=first, size=size, ignore=ignore, boxes=boxes, **columns)
    if any(part.area is not None for part in parts):
        merged.area = np.concatenate([_area(part) for part in parts])
    if stated:
        merged.ids = _merged_ids(parts)
    else:
        names = [os.fsdecode(name) for name in merged.files]
        merged.short = unique_stems(names)
        if not merged.short and len(set(names)) < len(names):
            pairs = zip(merged.shard.tolist(), names, strict=True)  # type: ignore[union-attr]
            merged.ids = file_names([f"{shard}/{name}" for shard, name in pairs])
    return merged


def _filled(columns: list[Any], shapes: list[tuple[int, ...]], kind: Any) -> Any:
    """The columns as one, with zeros where a part has none; None where no part has one."""
    if all(column is None for column in columns):
        return None
    pairs = zip(columns, shapes, strict=True)
    return np.concatenate([np.zeros(s, kind) if c is None else c for c, s in pairs])


def _area(part: ShardIndex) -> np.ndarray:
    if part.area is not None:
        return part.area
    if part.boxes is None:
        return np.zeros(len(part.labels), np.float32)
    return (part.boxes[:, 2:] - part.boxes[:, :2]).prod(1)


def _merged_ids(parts: list[ShardIndex]) -> np.ndarray:
    ids: list[Any] = [part.ids for part in parts]
    if all(each.dtype == np.int64 for each in ids):
        return np.concatenate(ids)
    texts = [each if each.dtype != np.int64 else each.astype(np.bytes_) for each in ids]
    return np.concatenate(texts)
