"""Images in WebDataset tars, on a disk, a web server or in an object store, read by range.

`python -m engine.shard` writes them from any dataset; of others an index is made from the headers.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from detect.datasets import shard_files
from detect.datasets.shard_files import Tars
from engine.config.ranges import Count, PartialShare, Seed
from engine.data import byte_ranges, shard_index, views
from engine.data.image import decode, opened
from engine.data.image_dataset import ImageDataset, check_classes
from engine.data.shard_index import ShardIndex, TarIndex
from engine.data.splits import find_split
from engine.data.tar_members import BLOCK, stated_size
from engine.errors import UserError, did_you_mean
from engine.record import Record


class Shards(ImageDataset):
    """Images of one split, in the order of the tars and of their members.

    With boxes where the tars have some, else labels of whole images. A record is that of the
    dataset that the tars were written from, but for its path: the tar's and the image's name.

    Args:
        root: folder or URL of tars <split>-*.tar, with `shards.json` of `engine.shard`.
        urls: or the tars themselves, as a pattern with {000..099}, a list, or either by split.
        index_folder: keeps the indices of tars that have none beside them; the tars' own folder
            puts them beside these. None: they are made anew in every start.
        requests: images that a worker asks a server for at a time; no matter for files.
        val_share: of train, held out as "val" where there is no such split.
        seed: of that choice.
        classes: in the order of the labels; None: those of shards.json, else all there are, sorted.
        view, on_error: see `ImageDataset`.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        urls: str | list[str] | dict[str, Any] | None = None,
        split: str,
        index_folder: str | None = None,
        requests: Count = 16,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        classes: list[str] | None = None,
        view: str = "all",
        on_error: str = "fail",
    ) -> None:
        super().__init__(view=view, on_error=on_error)
        tars = shard_files.find(root, urls)
        self.folder = tars.name
        own = {name for name in tars.places if name}
        how = find_split(split, root=tars.name, own=own, lists=None, val_share=val_share)
        self.places = tars.places[how.source if own else ""]
        self.requests = requests if byte_ranges.scheme(self.places[0]) else 0
        self.categories = tars.categories
        self._open_all = _Opener(index_folder, requests)
        found = self._open_all(self.places)
        self._check(tars, found)
        self.classes = self._classes(tars, found, classes)
        self.index = self._merged(found)
        self.check_boxes()
        self.select_split(how, split, val_share, seed)
        if self._open_all.made:
            self.notes.append(
                f"{self._open_all.made} of {len(self.places)} tars have no index: made from their "
                "headers; dataset.index_folder=FOLDER keeps them"
            )

    def record(self, index: int) -> Record:
        """The truth about one image; its path is its tar's and its own."""
        found = self.index.record(index, self.places[self._location(index)[0]])
        return views.apply_view(found, self.view)

    def read(self, index: int) -> bytes:
        """The bytes of an image's file.

        Raises:
            UserError: they are not where the index says.
        """
        shard, offset, length = self._location(index)
        place = self.places[shard]
        data = byte_ranges.read_range(place, offset - BLOCK, BLOCK + length)
        if len(data) < BLOCK + length or stated_size(data[:BLOCK]) != length:
            got = "it ends before" if len(data) < BLOCK + length else "another file lies there"
            name = self.index.record(index, place).path
            raise UserError(
                f"{name}: not at bytes {offset} to {offset + length} of the tar ({got}): the tar "
                "is cut, or changed since its index was made; write it again, or remove the index"
            )
        return data[BLOCK:]

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        path = self.record(index).path
        return decode(path, *opened(path, self.read(index)))

    def _location(self, index: int) -> tuple[int, int, int]:
        """Tar, first byte and bytes of an image."""
        images: Any = self.index
        return int(images.shard[index]), int(images.offset[index]), int(images.length[index])

    def _check(self, tars: Tars, found: Sequence[TarIndex]) -> None:
        """Refuse tars that differ from their index or from shards.json; report their defects."""
        for place, tar in zip(self.places, found, strict=True):
            for key, reason in tar.defects:
                self.leave_out(place, None, f"sample '{key}': {reason}" if key else reason)
            stated, there = tars.images.get(place), len(tar.images)
            if stated is not None and stated != there and not tar.defects:
                raise UserError(
                    f"{place}: {there} images, shards.json says {stated}: it is another tar; write "
                    "the shards again"
                )

    def _classes(
        self, tars: Tars, found: Sequence[TarIndex], classes: list[str] | None
    ) -> list[str]:
        """The names of all classes, of all splits alike."""
        given = classes or tars.classes
        if given is not None:
            return check_classes(given)
        others = [p for places in tars.places.values() if places != self.places for p in places]
        tables = [tar.names for tar in [*found, *self._open_all(others)]]
        names = {name for table in tables for name in table}
        numbers = [name for name in names if isinstance(name, int)]
        if numbers and len(numbers) == len(names):
            return check_classes(range(max(numbers) + 1))
        if numbers:
            raise UserError(
                f"{self.folder}: some labels are names and some numbers, such as {numbers[0]}: "
                "name the classes in dataset.classes"
            )
        if not names:
            raise UserError(f"{self.folder}: no label in any tar, so no class")
        return check_classes(sorted(names, key=str))

    def _merged(self, found: Sequence[TarIndex]) -> ShardIndex:
        """One index of all tars."""
        labels = {name: label for label, name in enumerate(self.classes)}
        with_boxes = any(tar.images.boxes is not None for tar in found)
        parts = []
        for number, (place, tar) in enumerate(zip(self.places, found, strict=True)):
            images = tar.images
            if with_boxes and images.boxes is None and len(images.labels):
                raise UserError(f"{place}: labels without boxes, other tars have boxes")
            own = np.array([self._label(place, name, labels) for name in tar.names], np.int64)
            shard = np.full(len(images), number, np.int32)
            parts.append(replace(images, labels=own[images.labels], shard=shard))
        merged = shard_index.merge(parts, all(tar.stated for tar in found))
        boxes = merged.boxes
        if boxes is not None and (flat := (boxes[:, 2:] == boxes[:, :2]).any(1)).any():
            merged.ignore = flat if merged.ignore is None else merged.ignore | flat
        return merged

    def _label(self, place: str, name: str | int, labels: Mapping[str, int]) -> int:
        if isinstance(name, int):
            if name >= len(labels):
                raise UserError(f"{place}: class {name}, expected 0 to {len(labels) - 1}")
            return name
        if name not in labels:
            hint = did_you_mean(str(name), labels)
            raise UserError(
                f"{place}: unknown class '{name}', expected one of {', '.join(labels)}{hint}"
            )
        return labels[name]


class _Opener:
    """Opens the indices of tars, several at a time; `made` counts those made from headers."""

    def __init__(self, folder: str | None, requests: int) -> None:
        self.folder, self.requests, self.made = folder, requests, 0

    def __call__(self, places: Sequence[str]) -> list[TarIndex]:
        with ThreadPoolExecutor(self.requests, "index") as pool:
            found = list(pool.map(lambda place: shard_files.open_index(place, self.folder), places))
        self.made += sum(made for _, made in found)
        return [index for index, _ in found]
