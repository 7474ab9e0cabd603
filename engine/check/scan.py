"""One pass over the images of a split: what each is, beside what its annotation says.

What an annotation alone can tell (a box without area, an unknown class) its dataset has told;
here is what takes the image. Rows are those of `Dataset.report`: file, row, reason, action.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from engine.data.header import SWAPPING, Header
from engine.data.image import IMAGE_SUFFIXES, read_header
from engine.data.upright import turn_of, upright
from engine.errors import UserError
from engine.protocols import Dataset
from engine.record import Record, Row, defect, is_outside

Digests = dict[bytes, tuple[str, str]]  # digest of the pixels -> split and path that had them first

SLACK = 1.0  # pixels that a box may reach over the border by rounding alone
ANNOTATIONS = {"Annotations": ".xml", "labels": ".txt"}  # folders beside or above the images'


class ScannedImage(NamedTuple):
    """One image that can be read."""

    record: Record  # in the annotation's pixels
    seen: Record  # in the upright image's
    size: tuple[int, int]  # (height, width), upright
    header: Header | None  # None where no file holds the image: it is drawn, or in an archive

    @property
    def counted(self) -> tuple[int, int]:
        """(height, width) of the image that the annotation's boxes count in."""
        return self.size if self.seen is self.record else (self.size[1], self.size[0])


def scan_images(
    split: str, data: Dataset, seen: Digests, report: list[Row]
) -> Iterator[ScannedImage]:
    """Every image of a split that can be read; what is wrong with any is added to `report`.

    One image is in memory at a time, and of all before it the digests, in `seen`.
    """
    for index in tqdm(range(len(data)), split, leave=False, disable=None):
        record = data.record(index)
        try:
            image = data.image(index)
        except UserError as error:
            report.append(defect(record.path, str(error), "left out"))
            continue
        size: tuple[int, int] = image.shape[:2]  # type: ignore[assignment]
        turn = turn_of(record, size)
        header = read_header(record.path) if Path(record.path).is_file() else None
        look = ScannedImage(record, upright(record, turn, size), size, header)
        report += [defect(record.path, *said) for said in _defects(look)]
        report += _outside(look)
        digest = _digest(image)
        where, first = seen.setdefault(digest, (split, record.path))
        if (where, first) != (split, record.path):
            why = f"the same pixels as {first} ({where})"
            why = why if first != record.path else f"stands in the split {where} too"
            report.append(defect(record.path, why, "kept"))
        yield look


def _digest(image: np.ndarray) -> bytes:
    """Of an image's pixels and its width: equal where the images are."""
    pixels = np.ascontiguousarray(image).data
    return hashlib.blake2b(pixels, digest_size=16, person=b"%d" % image.shape[1]).digest()


def _defects(look: ScannedImage) -> Iterator[tuple[str, str]]:
    """Reason and action of what an image's file or declared size has wrong."""
    height, width = look.size
    declared, header = look.record.size, look.header
    if declared is not None and declared != look.counted:
        was = f"{declared[1]} x {declared[0]}"
        yield f"declared {was}, the image is {width} x {height}", "kept"
    if header is not None and header.orientation != 1:
        how = f"EXIF turns it (orientation {header.orientation})"
        if look.record.boxes is None:
            yield how, "turned"
        elif look.seen is not look.record:
            yield f"{how}; its boxes count the stored pixels and are turned too", "turned"
        else:
            known = declared == look.size and header.orientation in SWAPPING and height != width
            why = "by its declared size" if known else "as far as can be told"
            yield f"{how}; its boxes count the upright image, {why}", "turned"
    if not _is_utf8(look.record.path):
        yield "its name is not UTF-8", "kept"


def _outside(look: ScannedImage) -> Iterator[Row]:
    """Each box, by number, that leaves the image; by a right declared size the dataset told."""
    boxes = look.seen.boxes
    if boxes is None or look.record.size == look.counted:
        return
    height, width = look.size
    over = np.maximum(-boxes[:, :2], boxes[:, 2:] - (width, height)).max(1) > SLACK
    gone = is_outside(boxes, np.array(look.size))
    for i in np.flatnonzero(over):
        box = ", ".join(f"{x:g}" for x in boxes[i].tolist())
        how, action = ("lies outside", "ignored") if gone[i] else ("leaves", "kept")
        reason = f"its box {i + 1}, {box}, {how} the image of {width} x {height}"
        yield defect(look.record.path, reason, action)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def unlisted_files(used: set[str], told: set[str]) -> Iterator[Row]:
    """Images that no split names, and annotations without an image, beside those that are used.

    Args:
        used: paths of the images of all splits.
        told: stems of files whose defects are reported already.
    """
    folders = sorted({Path(path).parent for path in used})
    images = [p for f in folders if f.is_dir() for p in sorted(f.iterdir()) if _is_image(p)]
    for path in images:
        if str(path) not in used and path.stem not in told:
            yield defect(path, "no split has this image", "not used")
    stems = {p.stem for p in images} | told
    for name, suffix in ANNOTATIONS.items():
        for folder in sorted(
            {near / name for f in folders for near in (f.parent, f.parent.parent)}
        ):
            for file in sorted(folder.rglob(f"*{suffix}")):
                if file.stem not in stems and file.stem != "classes":
                    yield defect(file, "an annotation without an image", "not used")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
