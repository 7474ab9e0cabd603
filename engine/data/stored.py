"""The encoded image files of a dataset, wherever their bytes lie: files, or members of tars."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from engine.data.header import Header
from engine.data.image import open_image, opened, read_header
from engine.protocols import DatasetOptions
from engine.record import Record

T = TypeVar("T")


def open_stored(data: Any, index: int, record: Record) -> tuple[bytes, Header]:
    """The bytes and the header of an image of a `stored` dataset; UserError naming it."""
    read = DatasetOptions.read.of(data)
    return open_image(record.path) if read is None else opened(record.path, read(index))


def header_of(data: Any, index: int, record: Record) -> Header:
    """The header of an image of a `stored` dataset; UserError naming it."""
    if DatasetOptions.read.of(data) is None:
        return read_header(record.path)
    return open_stored(data, index, record)[1]


def is_stored(data: Any, record: Record) -> bool:
    """Whether the image has bytes of its own, in a file or in a tar."""
    return DatasetOptions.read.of(data) is not None or os.path.isfile(record.path)


def map_images(data: Any, make: Callable[[int], T], rows: Iterable[int]) -> Iterator[T]:
    """What `make` makes of each row; several at a time where a read of the dataset takes long."""
    requests = DatasetOptions.requests.of(data)
    if not requests:
        yield from map(make, rows)
        return
    with ThreadPoolExecutor(requests, "images") as pool:
        yield from pool.map(make, rows)
