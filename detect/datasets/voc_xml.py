"""One annotation of PASCAL VOC: an XML file."""

import xml.etree.ElementTree as ET
from pathlib import Path

from detect.datasets import boxes
from engine.regular_file import read_regular

LARGEST_XML = 2**24  # bytes, of one image's annotation


def parse(file: Path) -> ET.Element:
    """The root of an annotation; ValueError where it cannot be used, with the reason."""
    try:
        root = ET.fromstring(content(file, LARGEST_XML))
    except (ET.ParseError, LookupError) as error:  # LookupError: of an unknown encoding
        raise ValueError(f"not XML ({error})") from error
    if root.tag != "annotation":
        raise ValueError(f"expected <annotation> as the root, got <{root.tag}>")
    return root


def content(file: Path, largest: int) -> bytes:
    """The bytes of an XML file of at most `largest`; ValueError where it cannot be used."""
    try:
        data = read_regular(file, largest)
    except OSError as error:
        raise ValueError(error.strerror) from error
    # Entities, which can blow up to gigabytes, need a DOCTYPE; no annotation has one. UTF-16 has
    # zeros.
    if b"<!DOCTYPE" in data.replace(b"\0", b""):
        raise ValueError("a DOCTYPE is refused, as it can define entities without end")
    return data


def box_of(thing: ET.Element) -> tuple[float, ...]:
    """The object's own `<bndbox>`: those of a person's `<part>`s lie deeper."""
    texts = [thing.findtext(f"bndbox/{corner}") for corner in boxes.CORNERS]
    if None in texts:
        raise ValueError(f"no <bndbox> with <{boxes.CORNERS[texts.index(None)]}>")
    return boxes.check_corners(boxes.numbers(texts, boxes.CORNERS))


def name_of(thing: ET.Element) -> str:
    """An object's class; "" where it has none."""
    return thing.findtext("name", "").strip()


def size_of(root: ET.Element) -> tuple[int, int] | None:
    """Declared (height, width), where both are there and above 0."""
    try:
        height, width = (int(float(root.findtext(f"size/{s}", ""))) for s in ("height", "width"))
    except (ValueError, OverflowError):
        return None
    return (height, width) if min(height, width) > 0 else None
