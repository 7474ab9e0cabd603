"""The truth about many images in flat arrays, which worker processes share."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Self

import numpy as np

from engine.record import Record

Box = tuple[float, ...]  # xyxy, pixels of the original image
LARGEST_SIDE = 2**31 - 1  # pixels; a larger one that a file declares is wrong as well
Object = tuple[Box, int, bool]  # box, label, ignore


class Entry(NamedTuple):
    """One image and its objects, as the reader of a format yields it."""

    file: str  # its path below the set's folder
    objects: list[Object]
    size: tuple[int, int] | None = None  # declared (height, width)


@dataclass
class Index:
    """Image i has the objects first[i]:first[i + 1]; a field the files do not state is None."""

    files: np.ndarray  # [N] bytes, the path below the set's folder
    first: np.ndarray  # [N + 1] int64
    labels: np.ndarray  # [M] int64
    boxes: np.ndarray | None = None  # [M, 4] float32
    ignore: np.ndarray | None = None  # [M] bool
    area: np.ndarray | None = None  # [M] float32
    size: np.ndarray | None = None  # [N, 2] int32 declared (height, width), 0 where none is
    ids: np.ndarray | None = None  # [N] int64 or bytes; None: stems, or where they repeat paths
    short: bool = True  # no stem repeats

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """The index of images with boxes."""
        files, sizes, objects, first = [], [], [], [0]
        for entry in entries:
            files.append(entry.file)
            sizes.append([min(side, LARGEST_SIDE) for side in entry.size or (0, 0)])
            objects += entry.objects
            first.append(len(objects))
        boxes, labels, ignore = zip(*objects, strict=True) if objects else ((), (), ())
        return cls(
            file_names(files),
            np.array(first),
            np.array(labels, np.int64),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(ignore, bool),
            size=np.array(sizes, np.int32).reshape(-1, 2),
            short=unique_stems(files),
        )

    def __len__(self) -> int:
        return len(self.files)

    def take(self, images: np.ndarray) -> Self:
        """The images at these rows, in their order."""
        count = np.diff(self.first)[images]
        first = np.concatenate([[0], np.cumsum(count)])
        rows = np.repeat(self.first[images] - first[:-1], count) + np.arange(first[-1])
        change = {"files": images, "size": images, "ids": images}
        change |= {name: rows for name in ("labels", "boxes", "ignore", "area")}
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.name in change}
        taken = {n: column[change[n]] for n, column in columns.items() if column is not None}
        return replace(self, first=first, **taken)

    def repeated(self) -> Iterator[tuple[str, int, str]]:
        """The image, label and corners of each object that repeats another of its image."""
        if self.boxes is None or not len(self.boxes):
            return
        image = np.repeat(np.arange(len(self)), np.diff(self.first))
        # Equal rows have equal sums, or neighbours; only these are compared: sorting rows is slow.
        weights = np.random.default_rng(0).random(6)
        sums = self.boxes @ weights[:4] + image * weights[4] + self.labels * weights[5]
        order = np.argsort(sums)
        boxes = self.boxes[order]
        alike = np.flatnonzero((boxes[1:] == boxes[:-1]).all(1))
        seen = set()
        for row in np.unique(order[[alike, alike + 1]]).tolist():
            key = (int(image[row]), int(self.labels[row]), *self.boxes[row].tolist())
            if key in seen:
                corners = " ".join(f"{value:g}" for value in self.boxes[row])
                yield os.fsdecode(self.files[key[0]]), key[1], corners
            seen.add(key)

    def record(self, index: int, folder: str) -> Record:
        """The truth about one image of a set whose images lie in `folder`."""
        file = os.fsdecode(self.files[index])
        span = slice(self.first[index], self.first[index + 1])
        truth = ("labels", "boxes", "ignore", "area")
        rows = {n: None if (x := getattr(self, n)) is None else x[span] for n in truth}
        size = (0, 0) if self.size is None else self.size[index].tolist()
        return Record(
            id=self._id(index, file),
            path=os.path.join(folder, file),
            size=(size[0], size[1]) if min(size) > 0 else None,
            **rows,  # type: ignore[arg-type]
        )

    def _id(self, index: int, file: str) -> str | int:
        if self.ids is not None:
            own = self.ids[index]
            return os.fsdecode(own) if isinstance(own, bytes) else int(own)
        return _stem(file) if self.short else file


def file_names(files: list[str]) -> np.ndarray:
    """[N] bytes, as the file system stores the names, so that any name fits."""
    try:
        return np.array(files, np.bytes_)  # ten times as fast, but only for ASCII
    except UnicodeEncodeError:
        return np.array([os.fsencode(file) for file in files], np.bytes_)


def unique_stems(files: list[str]) -> bool:
    """Whether no two files have the same name, folder and suffix left aside."""
    return len({_stem(file) for file in files}) == len(files)


def _stem(file: str) -> str:
    return os.path.splitext(os.path.basename(file))[0]
