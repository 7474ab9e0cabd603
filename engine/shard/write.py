"""Copies image files and their truth into tars, a file at a time."""

import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from engine.builders import judged_parts
from engine.builders.instantiate import check as check_node
from engine.builders.splits import SPLITS, open_splits
from engine.console import info, printable
from engine.data import shard_build, shard_index
from engine.data.image import png
from engine.data.shard_truth import Truth, as_json
from engine.data.stored import open_stored
from engine.errors import UserError
from engine.protocols import Dataset, DatasetOptions
from engine.record import Record, defect
from engine.whole_file import whole_file, write_whole

MEGABYTE = 10**6
END = bytes(2 * tarfile.BLOCKSIZE)  # of a tar
ENDINGS = {"jpeg": "jpg", "tiff": "tif", "pnm": "ppm"}  # of other kinds the kind's name


def write_shards(cfg: DictConfig) -> None:
    """Write the tars of every split, their indices and shards.json to the folder `out`.

    Raises:
        UserError: the folder has shards already, or the dataset or an image cannot be read.
    """
    folder = Path(cfg.out).expanduser()
    if (folder / shard_index.SUMMARY).exists() or any(folder.glob("*.tar")):
        raise UserError(f"out={folder}: there are shards in it; name another folder")
    check_node(cfg.dataset, "dataset", judged_parts.GIVEN["dataset"])
    names = SPLITS if cfg.split is None else (cfg.split,)
    splits, failed = open_splits(cfg, names)
    for error in failed.values():
        raise error
    write_all(folder, splits, cfg.shard_size * MEGABYTE)
    info(f"shards: dataset=shards dataset.root={folder}")


def write_all(folder: Path, splits: Mapping[str, Dataset], most: int) -> None:
    """Write the tars of some splits, each of about `most` bytes, and shards.json as the last.

    Raises:
        UserError: their classes differ, or an image cannot be read.
    """
    content: dict[str, Any] = {}
    for split, data in splits.items():
        content.setdefault("classes", data.classes)
        if content["classes"] != data.classes:
            raise UserError(f"{split}: other classes than the splits before; set dataset.classes")
        if (categories := DatasetOptions.categories.of(data)) is not None:
            content["categories"] = list(categories)
        rows = write_split(folder, split, data, most)
        content.setdefault("splits", {})[split] = rows
        images, size = sum(r["images"] for r in rows), sum(r["bytes"] for r in rows)
        tars = f"{len(rows)} tar{'s' * (len(rows) != 1)}"
        info(f"{split}: {images} images in {tars}, {size / MEGABYTE:.1f} MB")
    write_whole(folder / shard_index.SUMMARY, json.dumps(content, indent=1) + "\n")


def write_split(folder: Path, split: str, data: Dataset, most: int) -> list[dict[str, Any]]:
    """Write the tars of a split, each of about `most` bytes; name, images and bytes of each."""
    rows, samples = [], _samples(split, data)
    sample = next(samples, None)
    while sample is not None:
        path = folder / f"{split}-{len(rows):06d}.tar"
        count, used = 0, 0
        with whole_file(path, "wb") as file:
            while sample is not None and used < most:
                used += sum(file.write(_member(name, content)) for name, content in sample)
                count, sample = count + 1, next(samples, None)
            file.write(END)
        index = shard_build.build(str(path))
        write_whole(f"{path}{shard_index.SUFFIX}", shard_index.dump(index))
        rows.append({"tar": path.name, "images": count, "bytes": index.size})
    return rows


def _member(name: str, content: bytes) -> bytes:
    """A member of a tar: its header, its bytes, and what fills the last block."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    header = member.tobuf(tarfile.USTAR_FORMAT)
    return b"".join([header, content, bytes(-len(content) % tarfile.BLOCKSIZE)])


def _samples(split: str, data: Dataset) -> Iterator[list[tuple[str, bytes]]]:
    """Name and content of the members of each image."""
    folder = _common_folder(data)
    for index in tqdm(range(len(data)), printable(split), leave=False, disable=None):
        record = data.record(index)
        try:
            ending, content = _image(data, index, record)
        except UserError as error:
            if DatasetOptions.on_error.of(data) != "skip":
                raise UserError(f"{error}; to leave it out: dataset.on_error=skip") from None
            data.report.append(defect(record.path, str(error), "left out"))
            info(f"{split}: {error}: left out")
            continue
        key = f"{index:09d}"
        members = [(f"{key}.{ending}", content)]
        if record.boxes is None and len(record.labels) == 1:
            members.append((f"{key}.cls", str(int(record.labels[0])).encode()))
        yield [*members, (f"{key}.json", as_json(truth_of(record, data.classes, folder)))]


def _image(data: Dataset, index: int, record: Record) -> tuple[str, bytes]:
    """Ending and bytes of an image's file; of an image that no file holds a PNG."""
    if not DatasetOptions.stored.of(data):
        return "png", png(data.image(index))
    content, header = open_stored(data, index, record)
    return ENDINGS.get(header.kind, header.kind), content


def _common_folder(data: Dataset) -> str:
    """The folder that all images of a split lie in or below."""
    folders = {os.path.dirname(data.record(i).path) for i in range(len(data))}
    try:
        return os.path.commonpath(folders)
    except ValueError:  # some begin at the root and some do not
        return ""


def truth_of(record: Record, classes: list[str], folder: str) -> Truth:
    """The truth of a record in plain numbers, which float32 gives back to the bit."""
    plain = {
        name: None if (column := getattr(record, name)) is None else column.tolist()
        for name in ("boxes", "ignore", "area")
    }
    return Truth(
        [classes[label] for label in record.labels],
        size=record.size,
        id=record.id,
        file=PurePath(os.path.relpath(record.path, folder or ".")).as_posix(),
        **plain,
    )
