"""The index of a WebDataset tar from its headers and its small members; no image is read."""

import os
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from engine.data import byte_ranges, shard_truth, tar_members
from engine.data.image import IMAGE_SUFFIXES
from engine.data.image_dataset import escapes_root
from engine.data.index import file_names, unique_stems
from engine.data.shard_index import ShardIndex, TarIndex
from engine.data.shard_truth import Truth
from engine.data.tar_members import CutTar, Member, Window
from engine.data.tree import is_visible

NEAR, FAR = 2**12, 2**18  # bytes read at least at once: of this machine's files, of others
SMALL = 2**26  # bytes of a .json
TRUTHS = ("json", "cls")  # endings of what states something about an image


class Sample(NamedTuple):
    """One image of a tar, and what is true of it."""

    image: Member
    truth: Truth


class Part(NamedTuple):
    """A member of a tar, with its bytes where it states something about an image."""

    member: Member
    text: bytes | None


def build(place: str) -> TarIndex:
    """The index of a tar, from its headers; what is wrong with it is in `defects`."""
    far = bool(byte_ranges.scheme(place))
    window = Window(lambda start, n: byte_ranges.read_range(place, start, n), FAR if far else NEAR)
    defects: list[tuple[str, str]] = []
    samples = _with_boxes(list(_samples(window, defects)), defects)
    return _index(samples, defects, byte_ranges.size(place) or 0)


def _samples(window: Window, defects: list[tuple[str, str]]) -> Iterator[Sample]:
    """The samples of a tar in order; consecutive members of a key are one (WebDataset's rule)."""
    parts = _whole(window, defects)
    for key, group in groupby(parts, key=lambda part: _split(part.member.name)[0]):
        members = {_split(part.member.name)[1]: part for part in group}
        images = [p.member for ending, p in members.items() if f".{ending}" in IMAGE_SUFFIXES]
        text, cls = (members[e].text if e in members else None for e in TRUTHS)
        if not images and text is None and cls is None:
            continue  # a file of another kind
        try:
            if len(images) != 1:
                found = ", ".join(f".{ending}" for ending in members)
                raise ValueError(f"it has {found}: {len(images) or 'no'} image, expected one")
            yield Sample(images[0], shard_truth.parse(text, cls))
        except ValueError as error:
            defects.append((key, str(error)))


def _with_boxes(samples: list[Sample], defects: list[tuple[str, str]]) -> list[Sample]:
    """The samples without those that have labels alone, where others have boxes."""
    if not any(sample.truth.boxes is not None for sample in samples):
        return samples
    lacking = [s for s in samples if s.truth.boxes is None and s.truth.labels]
    why = 'its "boxes" are missing, other samples have some'
    defects += [(_split(sample.image.name)[0], why) for sample in lacking]
    return [s for s in samples if s.truth.boxes is not None or not s.truth.labels]


def _whole(window: Window, defects: list[tuple[str, str]]) -> Iterator[Part]:
    """The visible members whose bytes are all there."""
    last = None
    try:
        for member in tar_members.members(window):
            if last is not None:  # a header follows it, so it is whole
                yield last
            last = None
            if is_visible(os.path.basename(member.name)):
                last = Part(member, _text(window, member))
    except CutTar as error:
        defects.append(("", str(error)))
        last = last if error.whole else None
    if last is not None:
        yield last


def _text(window: Window, member: Member) -> bytes | None:
    """The bytes of a .json or a .cls."""
    if _split(member.name)[1] not in TRUTHS or member.size > SMALL:
        return None
    return window.get(member.offset, member.size)


def _split(name: str) -> tuple[str, str]:
    """Key and ending of a member: what is in front of the first dot of its name, and behind it."""
    folder, _, file = name.removeprefix("./").rpartition("/")
    key, _, ending = file.partition(".")
    return f"{folder}/{key}" if folder else key, ending.lower()


def _index(samples: list[Sample], defects: list[tuple[str, str]], size: int) -> TarIndex:
    truths = [sample.truth for sample in samples]
    names = {name: None for truth in truths for name in truth.labels}
    number = {name: place for place, name in enumerate(names)}
    files = [_file(sample) for sample in samples]
    images = ShardIndex(
        file_names(files),
        np.cumsum([0, *(len(truth.labels) for truth in truths)]),
        np.array([number[name] for truth in truths for name in truth.labels], np.int64),
        ids=_ids(truths),
        short=unique_stems(files),
        shard=np.zeros(len(files), np.int32),
        offset=np.array([sample.image.offset for sample in samples], np.int64),
        length=np.array([sample.image.size for sample in samples], np.int64),
        size=_sizes(truths),
        **_columns(truths),
    )
    stated = all(truth.id is not None for truth in truths)
    return TarIndex(images, list(names), stated, defects, size)


def _file(sample: Sample) -> str:
    stated = sample.truth.file
    return sample.image.name if stated is None or escapes_root(stated) else stated


def _ids(truths: list[Truth]) -> np.ndarray | None:
    """[N] int64, or bytes where one is a text; None where one is missing."""
    ids = [truth.id for truth in truths]
    if any(number is None for number in ids):
        return None
    if all(isinstance(number, int) for number in ids):
        return np.array(ids, np.int64)
    return file_names([str(number) for number in ids])


def _sizes(truths: list[Truth]) -> np.ndarray | None:
    if not any(truth.size for truth in truths):
        return None
    return np.array([truth.size or (0, 0) for truth in truths], np.int32).reshape(-1, 2)


def _columns(truths: list[Truth]) -> dict[str, np.ndarray]:
    """Boxes [M, 4], ignore [M] and area [M], as far as some image states them."""
    found: dict[str, Any] = {}
    if any(truth.boxes is not None for truth in truths):
        boxes = [box for truth in truths for box in truth.boxes or [(0.0,) * 4] * len(truth.labels)]
        found["boxes"] = np.array(boxes, np.float32).reshape(-1, 4)
    if any(truth.ignore is not None for truth in truths):
        flags = [flag for t in truths for flag in t.ignore or [False] * len(t.labels)]
        found["ignore"] = np.array(flags, bool)
    if any(truth.area is not None for truth in truths):
        found["area"] = np.array([a for t in truths for a in _areas(t)], np.float32)
    return found


def _areas(truth: Truth) -> list[float]:
    """The area of each object; where it is not stated that of its box."""
    if truth.area is not None:
        return truth.area
    boxes = truth.boxes or [(0.0,) * 4] * len(truth.labels)
    return [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]
