"""Warps of boxes, as `engine.data.viewport` warps their images. No import of torch here."""

import numpy as np

from engine.record import Record


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The bounding boxes [M, 4] of boxes [M, 4] xyxy under the affine map."""
    if not matrix[0, 1] and not matrix[1, 0]:  # no rotation: faster
        (sx, _, x), (_, sy, y) = matrix.tolist()
        ends = boxes * np.array([sx, sy, sx, sy]) + np.array([x, y, x, y])  # [M, 4]
        one, other = ends[:, :2], ends[:, 2:]
        return np.concatenate([np.minimum(one, other), np.maximum(one, other)], 1)
    x1, y1, x2, y2 = boxes.T
    corners = np.stack([[x1, x2, x2, x1], [y1, y1, y2, y2]], 1)  # [4, 2, M]
    moved = matrix[:, :2] @ corners + matrix[:, 2:]  # [4, 2, M]
    return np.concatenate([moved.min(0), moved.max(0)]).T


def warp_record(
    record: Record,
    matrix: np.ndarray,
    size: tuple[int, int],
    min_visible: float,
    centre: bool = False,
) -> Record:
    """The truth under the map, clipped to an input of (height, width); objects outside are dropped.

    An object is ignored if a smaller share of its box than `min_visible` is left; with `centre` it
    is dropped if its centre is outside. Objects without boxes stay.
    """
    if record.boxes is None:
        return record
    boxes = warp_boxes(record.boxes, matrix)
    clipped = np.minimum(np.maximum(boxes, 0), (size[1], size[0], size[1], size[0]))
    area, seen = _area(boxes), _area(clipped)
    ignore = seen < min_visible * area
    if record.ignore is not None:
        ignore |= record.ignore
    kept = seen > 0
    if centre:
        middle = boxes[:, :2] + boxes[:, 2:]
        kept &= ((middle > 0) & (middle < (2 * size[1], 2 * size[0]))).all(1)
    boxes, area = clipped[kept].astype(np.float32), seen[kept].astype(np.float32)
    return Record(record.id, record.path, record.labels[kept], boxes, ignore[kept], area)


def _area(boxes: np.ndarray) -> np.ndarray:
    sides = boxes[:, 2:] - boxes[:, :2]
    return sides[:, 0] * sides[:, 1]
