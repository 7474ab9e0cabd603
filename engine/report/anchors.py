"""The objects against the anchors of the network: what no anchor reaches cannot be learnt well."""

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.ops import box_iou

from engine.data.warp_truth import warp_boxes
from engine.record import ObjectTable
from engine.report.diagnosis import Table

REACHED = 0.5  # IoU from which an anchor is matched by most heads
LOOKED_AT = 2000  # objects at most
CHUNK = 64  # objects that are compared with all anchors at once
SIDES = (0, 16, 32, 64, 128, np.inf)  # pixels of the network's input, of the root of the area


def table(
    classes: Sequence[str], true: ObjectTable, matrices: np.ndarray, slots: np.ndarray
) -> Table:
    """Return how many objects an anchor reaches, by size in the network's input and by class.

    Args:
        classes: names by label.
        true: the objects.
        matrices: [N, 2, 3] of each image, its pixels to the network's input.
        slots: [A, 4] xyxy anchors, pixels of the input.
    """
    rows = np.flatnonzero(~true.ignore)
    if len(rows) > LOOKED_AT:
        rows = np.sort(np.random.default_rng(0).choice(rows, LOOKED_AT, replace=False))
    boxes = in_input(true.boxes[rows], matrices[true.image[rows]])
    best = best_iou(boxes, slots)
    side = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
    lines = [
        _row(
            f"{low:g} to {high:g} pixels".replace(" to inf pixels", " pixels and more"),
            best[(side >= low) & (side < high)],
        )
        for low, high in zip(SIDES[:-1], SIDES[1:], strict=True)
    ]
    lines += [_row(name, best[true.labels[rows] == k]) for k, name in enumerate(classes)]
    missed = 1 - float((best >= REACHED).mean()) if len(best) else 0.0
    note = (
        f"{1 - missed:.1%} of {len(rows)} objects have an anchor of this network at an IoU of "
        f"{REACHED:g} or more, in pixels of its input; python -m detect.kmeans finds others."
    )
    columns = ("objects of", "objects", "share reached", "mean best IoU")
    return Table("Objects and anchors", note, columns, [line for line in lines if line[1]])


def _row(name: str, best: np.ndarray) -> tuple[str, int, float, float]:
    reached = float((best >= REACHED).mean()) if len(best) else 0.0
    return name, len(best), reached, float(best.mean()) if len(best) else 0.0


def in_input(boxes: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Return boxes xywh [M, 4] of originals as xyxy in the network's input; matrices [M, 2, 3]."""
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    moved = [warp_boxes(box[None], matrix) for box, matrix in zip(corners, matrices, strict=True)]
    return np.concatenate([np.zeros((0, 4)), *moved])


def best_iou(boxes: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Return the highest IoU [M] of each box [M, 4] with a slot [A, 4], xyxy both."""
    anchors = torch.from_numpy(slots.astype(np.float64))
    rows = torch.from_numpy(boxes).split(CHUNK)  # all at once would take gigabytes
    return np.concatenate([np.zeros(0), *(box_iou(row, anchors).amax(1).numpy() for row in rows)])
