"""What the .json and .cls members of a WebDataset tar say of an image.

The .json, as `engine.shard` writes it: {"id": 17, "file_name": "a/b.jpg", "height": 375,
"width": 500, "labels": ["dog"], "boxes": [[x1, y1, x2, y2]], "ignore": [false], "area": [812.5]}.
All but the labels may be missing; without "boxes" the labels are the whole image's. One "label",
or a .cls with a class's number or name, may stand in the place of the labels.
"""

import json
import math
from typing import Any, NamedTuple

from engine.data.index import LARGEST_SIDE, Box
from engine.data.read_json import LARGEST, is_finite
from engine.regular_file import is_file_name

MOST = 2**63  # of a whole number as an id


class Truth(NamedTuple):
    """One image, as its members state it; what they do not is None."""

    labels: list[str | int]  # names or numbers of classes
    boxes: list[Box] | None = None  # xyxy, pixels of the original image
    ignore: list[bool] | None = None
    area: list[float] | None = None
    size: tuple[int, int] | None = None  # declared (height, width)
    id: str | int | None = None
    file: str | None = None  # its path in the set that the tar was written from


def parse(text: bytes | None, cls: bytes | None) -> Truth:
    """The truth in a .json and a .cls, of which one may be missing.

    Raises:
        ValueError: what is wrong with which of them.
    """
    content = {} if text is None else _object(text)
    labels = _labels(content, cls)
    return Truth(
        labels,
        boxes=_each(content, "boxes", _box, len(labels), "[x1, y1, x2, y2] of x1 <= x2, y1 <= y2"),
        ignore=_each(content, "ignore", _flag, len(labels), "true or false"),
        area=_each(content, "area", _number, len(labels), "square pixels"),
        size=_size(content),
        id=_id(content.get("id")),
        file=_file(content.get("file_name")),
    )


def _object(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its .json cannot be read ({str(error).split(';')[0]})") from None
    if not isinstance(content, dict):
        raise ValueError(f"its .json is a {type(content).__name__}, expected an object")
    return content


def _labels(content: dict[str, Any], cls: bytes | None) -> list[str | int]:
    found = content.get("labels", content.get("label"))
    if found is None and cls is not None:
        name = cls.decode("utf-8", "replace").strip()
        found = int(name) if name.isdecimal() else name
    if found is None:
        raise ValueError('it has neither a .cls nor "labels" in its .json: no truth')
    found = found if isinstance(found, list) else [found]
    for name in found:
        if isinstance(name, bool) or not isinstance(name, str | int) or name in ("", -1):
            raise ValueError(f"its label is {name!r:.40}, expected a class's name or number")
    return found


def _each(content: dict[str, Any], key: str, read: Any, count: int, expected: str) -> Any:
    """A value for each label; None where there is no such key."""
    rows = content.get(key)
    if rows is None:
        return None
    if not isinstance(rows, list) or len(rows) != count:
        got = f"{len(rows)}" if isinstance(rows, list) else repr(rows)[:40]
        raise ValueError(f'"{key}" has {got}, expected one for each of {count} labels')
    try:
        return [read(row) for row in rows]
    except (TypeError, ValueError):
        raise ValueError(f'"{key}" is {rows!r:.60}, expected {expected}') from None


def _number(value: Any) -> float:
    if not is_finite(value):
        raise ValueError
    return value


def _box(row: Any) -> Box:
    x1, y1, x2, y2 = (_number(value) for value in row)
    if x1 > x2 or y1 > y2 or not math.isfinite(x2 - x1) or max(map(abs, row)) > LARGEST:
        raise ValueError
    return x1, y1, x2, y2


def _flag(value: Any) -> bool:
    if value not in (0, 1):  # False and True are 0 and 1
        raise ValueError
    return bool(value)


def _size(content: dict[str, Any]) -> tuple[int, int] | None:
    sides = [content.get(key) for key in ("height", "width")]
    if not all(type(side) is int and 0 < side <= LARGEST_SIDE for side in sides):
        return None
    return sides[0], sides[1]  # type: ignore[return-value]


def _id(value: Any) -> str | int | None:
    if isinstance(value, str):
        return value if is_file_name(value) else None
    return value if type(value) is int and -MOST <= value < MOST else None


def _file(value: Any) -> str | None:
    return value if isinstance(value, str) and is_file_name(value) else None


def as_json(truth: Truth) -> bytes:
    """The truth as a .json member, which `parse` reads back equal."""
    size = truth.size or (None, None)
    content = {
        "id": truth.id,
        "file_name": truth.file,
        "height": size[0],
        "width": size[1],
        "labels": truth.labels,
        "boxes": truth.boxes,
        "ignore": truth.ignore,
        "area": truth.area,
    }
    return json.dumps({k: v for k, v in content.items() if v is not None}).encode()
