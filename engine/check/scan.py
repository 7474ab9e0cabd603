"""Reads the images of a split once, and compares each with its annotation.

Defects that the annotation alone shows (a box without area, an unknown class) are reported by the
dataset; here are those that need the image. Rows are those of `Dataset.report`.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from engine.console import printable
from engine.data.header import SWAPPING, Header
from engine.data.image import IMAGE_SUFFIXES
from engine.data.stored import header_of, is_stored
from engine.data.tree import is_visible
from engine.data.upright import turn_of, upright
from engine.errors import UserError
from engine.protocols import Dataset
from engine.record import Record, Row, defect, is_outside

Digests = dict[bytes, tuple[str, str]]  # digest of the pixels -> split and path that had them first

SLACK = 1.0  # pixels that a box may reach over the border, as an effect of rounding
ANNOTATIONS = {"Annotations": ".xml", "labels": ".txt"}  # folders beside or above the images'


class ScannedImage(NamedTuple):
    """One image that can be read."""

    record: Record  # in the annotation's pixels
    upright: Record  # in pixels of the upright image
    size: tuple[int, int]  # (height, width), upright
    header: Header | None  # None if the image is not a file: it is drawn, or in an archive

    @property
    def annotated_size(self) -> tuple[int, int]:
        """(height, width) of the image in whose pixels the annotation's boxes are."""
        return self.size if self.upright is self.record else (self.size[1], self.size[0])


def scan_images(
    split: str, data: Dataset, digests: Digests, report: list[Row]
) -> Iterator[ScannedImage]:
    """Yields every image of a split that can be read, and adds the defects of all to `report`.

    One image at a time is in memory, and in `digests` a digest of every image so far.
    """
    for index in tqdm(range(len(data)), printable(split), leave=False, disable=None):
        record = data.record(index)
        try:
            image = data.image(index)
        except UserError as error:
            report.append(defect(record.path, str(error), "left out"))
            continue
        size: tuple[int, int] = image.shape[:2]  # type: ignore[assignment]
        header = header_of(data, index, record) if is_stored(data, record) else None
        turn = turn_of(record, size, partial(header_of, data, index, record))
        scanned = ScannedImage(record, upright(record, turn, size), size, header)
        report += [defect(record.path, reason, action) for reason, action in _defects(scanned)]
        report += _outside(scanned)
        first_split, first = digests.setdefault(_digest(image), (split, record.path))
        if (first_split, first) != (split, record.path):
            reason = f"the same pixels as {first} ({first_split})"
            reason = reason if first != record.path else f"is in the split {first_split} too"
            report.append(defect(record.path, reason, "kept"))
        yield scanned


def _digest(image: np.ndarray) -> bytes:
    """A digest of an image's pixels and its width: equal for equal images."""
    pixels = np.ascontiguousarray(image).data
    return hashlib.blake2b(pixels, digest_size=16, person=b"%d" % image.shape[1]).digest()


def _defects(scanned: ScannedImage) -> Iterator[tuple[str, str]]:
    """Reason and action of each defect of an image's file, name or declared size."""
    height, width = scanned.size
    declared, header = scanned.record.size, scanned.header
    if declared is not None and declared != scanned.annotated_size:
        was = f"{declared[1]} x {declared[0]}"
        yield f"declared {was}, the image is {width} x {height}", "kept"
    if header is not None and header.orientation != 1:
        turn = f"EXIF turns it (orientation {header.orientation})"
        if scanned.record.boxes is None:
            yield turn, "turned"
        elif scanned.upright is not scanned.record:
            yield f"{turn}; its boxes are in pixels of the stored image, turned too", "turned"
        else:
            known = declared == scanned.size and header.orientation in SWAPPING and height != width
            why = "by its declared size" if known else "as nothing shows otherwise"
            yield f"{turn}; its boxes are in pixels of the upright image, {why}", "turned"
    if not _is_utf8(scanned.record.path):
        yield "its name is not UTF-8", "kept"


def _outside(scanned: ScannedImage) -> Iterator[Row]:
    """A defect for each box, by number, that reaches out of the image.

    If the declared size is right, the dataset has reported these already.
    """
    boxes = scanned.upright.boxes
    if boxes is None or scanned.record.size == scanned.annotated_size:
        return
    height, width = scanned.size
    over = np.maximum(-boxes[:, :2], boxes[:, 2:] - (width, height)).max(1) > SLACK
    gone = is_outside(boxes, np.array(scanned.size))
    for i in np.flatnonzero(over):
        box = ", ".join(f"{x:g}" for x in boxes[i].tolist())
        how, action = ("lies outside", "ignored") if gone[i] else ("leaves", "kept")
        reason = f"its box {i + 1}, {box}, {how} the image of {width} x {height}"
        yield defect(scanned.record.path, reason, action)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def unlisted_files(used: set[str], reported: set[str]) -> Iterator[Row]:
    """Defects for images in no split and annotations without an image, near the used images.

    Args:
        used: paths of the images of all splits.
        reported: stems of files whose defects are reported already.
    """
    folders = sorted({Path(path).parent for path in used})
    images = [p for f in folders if f.is_dir() for p in sorted(f.iterdir()) if _is_image(p)]
    for path in images:
        if str(path) not in used and path.stem not in reported:
            yield defect(path, "no split has this image", "not used")
    stems = {p.stem for p in images} | reported
    for name, suffix in ANNOTATIONS.items():
        for folder in sorted({up / name for f in folders for up in (f.parent, f.parent.parent)}):
            for file in sorted(folder.rglob(f"*{suffix}")):
                if file.stem not in stems and file.stem != "classes":
                    yield defect(file, "an annotation without an image", "not used")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and is_visible(path.name) and path.is_file()
