"""The rows of a predictions file (COCO results format) as columns. No import of torch here."""

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from reprlib import repr as shorten
from typing import Any, NamedTuple

import msgspec
import numpy as np
from hotcoco import mask

from engine.data.read_json import LARGEST, LARGEST_FILE, is_finite
from engine.errors import UserError
from engine.regular_file import read_regular

EXPECTED = 'expected {"image_id", "category_id", "bbox": [x, y, w, h], "score"}'
Belongs = Callable[[Any, Any], bool]  # of an image_id and a category_id


class _Row(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, float, float]
    score: float
    category_name: str | None = None


class Rows(NamedTuple):
    """Columns of a file; the numbers of a row that belongs to no image or class are unchecked."""

    images: Sequence[Any]  # image_id
    categories: Sequence[Any]  # category_id
    names: Sequence[Any]  # category_name, None where a row has none
    boxes: np.ndarray  # [M, 4] xywh
    scores: np.ndarray  # [M]
    areas: np.ndarray  # [M]


ROWS = msgspec.json.Decoder(list[_Row])


def read_plain(path: str | Path) -> Rows | None:
    """The rows of a file; None where one needs a closer look, or the file."""
    try:
        rows = ROWS.decode(read_regular(path, LARGEST_FILE))
    except (OSError, UnicodeDecodeError, msgspec.DecodeError):
        return None
    boxes = np.fromiter(chain.from_iterable(row.bbox for row in rows), float, 4 * len(rows))
    boxes, scores = boxes.reshape(-1, 4), np.fromiter((row.score for row in rows), float, len(rows))
    areas = boxes[:, 2] * boxes[:, 3]
    if max(np.abs(boxes).max(initial=0), np.abs(scores).max(initial=0)) > LARGEST:
        return None
    images, labels = [row.image_id for row in rows], [row.category_id for row in rows]
    return Rows(images, labels, [row.category_name for row in rows], boxes, scores, areas)


def check_rows(path: str | Path, content: list[Any], belongs: Belongs) -> Rows:
    """The rows of a list, each checked.

    Args:
        path: of the list, for messages.
        content: the list.
        belongs: whether there are an image of this id and a class of this one.

    Raises:
        UserError: naming the row, counted from 1.
    """
    # what the first row has decides for all, as in pycocotools
    masks = bool(content) and isinstance(content[0], dict) and not content[0].get("bbox")
    rows = []
    for number, row in enumerate(content, 1):
        try:
            rows.append(_check(row, masks, belongs))
        except ValueError as error:
            raise UserError(f"{path}, row {number}: {error}") from None
    images, labels, names, boxes, scores, areas = zip(*rows, strict=True) if rows else ((),) * 6
    numbers = np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(areas, float)
    return Rows(images, labels, names, *numbers)


def _check(row: Any, masks: bool, belongs: Belongs) -> tuple[Any, ...]:
    """Image, category and its name, box, score and area of a row; ValueError if it is none.

    `masks` says whether the area is the mask's, not the box's.
    """
    try:
        image, category = row["image_id"], row["category_id"]
        is_ours = belongs(image, category)
    except KeyError:
        raise ValueError(f"got {shorten(row)}, {EXPECTED}") from None
    except TypeError:
        raise ValueError(
            f"got {shorten(row)}, expected image_id and category_id to be numbers or texts"
        ) from None
    if not is_ours:
        return image, category, None, [0] * 4, 0, 0
    (box, area), name = _box(row, masks), row.get("category_name")
    return image, category, None if name is None else str(name), box, row["score"], area


def _box(row: dict[str, Any], masks: bool) -> tuple[list[float], float]:
    """The box xywh and the area of a row; ValueError where a number is none."""
    score, box = row.get("score"), row.get("bbox")
    area = None
    if masks and "segmentation" in row:
        area, mask_box = _mask(row["segmentation"])
        box = box or mask_box
    if box is None or "score" not in row:
        raise ValueError(f"got {shorten(row)}, {EXPECTED}")
    fits = isinstance(box, list) and len(box) == 4 and all(map(is_finite, box))
    if not fits or not is_finite(score):
        raise ValueError(
            f"got bbox {shorten(box)}, score {score!r}, expected [x, y, w, h] and finite numbers"
        )
    return box, box[2] * box[3] if area is None else area


def _mask(code: Any) -> tuple[float, list[float]]:
    """Area and box xywh of a mask in COCO's run-length code."""
    try:
        return float(mask.area(code)), np.asarray(mask.to_bbox(code), float).tolist()
    except Exception as error:  # hotcoco's errors have no fixed set
        raise ValueError(
            f"got segmentation {shorten(code)} ({error}), expected run-length code, or a bbox"
        ) from None
