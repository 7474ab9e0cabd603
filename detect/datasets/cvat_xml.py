"""The file of "CVAT for images" 1.1 (https://docs.cvat.ai/docs/manual/advanced/formats/)."""

import io
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from detect.datasets.boxes import check_corners, numbers
from detect.datasets.voc_xml import content
from engine.data.index import Box
from engine.errors import UserError

LARGEST_XML = 2**29  # bytes, of all images
CORNERS = ("xtl", "ytl", "xbr", "ybr")
BOX = "box"
IMAGE_LABEL = "tag"  # of an image as a whole


class Shape(NamedTuple):
    """An object of an image, as the file has it."""

    number: int  # among all of the file, from 1
    kind: str  # box, polygon, ...
    values: dict[str, str]  # its XML attributes

    @property
    def label(self) -> str:
        """Its class; "" where it has none."""
        return self.values.get("label", "").strip()

    @property
    def is_upright_box(self) -> bool:
        """Whether it is a box that is not turned."""
        return self.kind == BOX and float(self.values.get("rotation") or 0) % 360 == 0


class Image(NamedTuple):
    """An image and its shapes."""

    name: str
    subset: str  # of a project; "" for none
    size: tuple[int, int] | None  # declared (height, width)
    shapes: list[Shape]


def images(file: Path) -> Iterator[Image]:
    """The images of a file, one after the other.

    Raises:
        UserError: it is no such file.
    """
    count, seen, top = 0, False, True
    try:
        for event, each in ET.iterparse(io.BytesIO(content(file, LARGEST_XML)), ("start", "end")):
            if top and each.tag != "annotations":
                raise ValueError(f"expected <annotations> as the root, got <{each.tag}>")
            top = False
            if event == "end" and each.tag == "image":
                found = [thing for thing in each if thing.tag not in ("attribute", "comment")]
                shapes = [Shape(count + n, t.tag, dict(t.attrib)) for n, t in enumerate(found, 1)]
                count, seen = count + len(shapes), True
                yield Image(each.get("name", ""), each.get("subset", ""), _size(each), shapes)
                each.clear()
            elif event == "end" and each.tag == "track":
                raise ValueError("its objects are tracks of a video: export as CVAT for images")
    except (ET.ParseError, LookupError) as error:  # LookupError: of an unknown encoding
        raise UserError(f"{file}: not XML ({error})") from error
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
    if not seen:
        raise UserError(f"{file}: no <image> in it; export as CVAT for images")


def box_of(shape: Shape) -> Box:
    """The corners of the box around a shape; ValueError where it has none."""
    values = shape.values
    if shape.kind == BOX:
        box = check_corners(_numbers(values, CORNERS))
        return _turned(box, *_numbers(values, ("rotation",))) if values.get("rotation") else box
    if shape.kind in ("polygon", "polyline"):
        pairs = [point.split(",") for point in values.get("points", "").split(";")]
        if any(len(pair) != 2 for pair in pairs):
            shown = values.get("points", "")[:40]
            raise ValueError(f"points are '{shown}', expected x,y;x,y of a {shape.kind}")
        return _around(*([numbers([p[i]], ["xy"[i]])[0] for p in pairs] for i in (0, 1)))
    if shape.kind == "cuboid":
        names = [f"{corner}{side}" for side in "12" for corner in ("tl", "bl", "tr", "br")]
        return _around(*(_numbers(values, [axis + name for name in names]) for axis in "xy"))
    if shape.kind == "ellipse":
        cx, cy, rx, ry = _numbers(values, ("cx", "cy", "rx", "ry"))
        return check_corners((cx - rx, cy - ry, cx + rx, cy + ry))
    if shape.kind == "mask":
        left, top, width, height = _numbers(values, ("left", "top", "width", "height"))
        return check_corners((left, top, left + width, top + height))
    raise ValueError(f"a shape <{shape.kind}> has no box")


def _numbers(values: dict[str, str], names: tuple[str, ...] | list[str]) -> Box:
    return numbers([values.get(name) for name in names], names)


def _around(xs: list[float] | Box, ys: list[float] | Box) -> Box:
    return min(xs), min(ys), max(xs), max(ys)


def _turned(box: Box, degrees: float) -> Box:
    """The box around one that is turned around its centre."""
    if degrees % 360 == 0:
        return box
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    w, h = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    w, h = w * cos + h * sin, w * sin + h * cos
    return x - w, y - h, x + w, y + h


def _size(image: ET.Element) -> tuple[int, int] | None:
    """Declared (height, width), where both are there and above 0."""
    try:
        height, width = int(image.get("height", "")), int(image.get("width", ""))
    except ValueError:
        return None
    return (height, width) if min(height, width) > 0 else None
