"""Non-maximum suppression step by step, as YOLOv1's and SSD's boxes pass it.

Take the box with the highest score; remove all others that overlap it by more than a threshold;
repeat with those that are left. The overlap is the intersection over union (IoU). The last line is
torchvision's `nms`, which this project's heads use.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.ops import nms

from engine.errors import UserError
from engine.explain.explanation import Explanation, new_figure
from engine.explain.images import read_or_draw

Row = list[float]  # x1, y1, x2, y2 in pixels, and a score in 0..1
COLOURS = ("#1f77b4", "#ff7f0e", "#9467bd", "#000000", "#17becf", "#8c564b")


class Step(NamedTuple):
    """The box taken, the boxes that it removes with their IoU, and those left, by number."""

    takes: int
    removes: dict[int, float]
    left: list[int]


def box_iou(a: Row, b: Row) -> float:
    """The area that two boxes share, of the area that they cover together."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return shared / (both - shared)


def suppress(boxes: list[Row], threshold: float) -> list[Step]:
    """Each box taken, the highest score first; of equal scores the first."""
    left = sorted(range(len(boxes)), key=lambda i: -boxes[i][4])
    steps = []
    while left:
        best, *others = left
        overlaps = {i: box_iou(boxes[best], boxes[i]) for i in others}
        removes = {i: overlap for i, overlap in overlaps.items() if overlap > threshold}
        left = [i for i in others if i not in removes]
        steps.append(Step(best, removes, left))
    return steps


def explain(boxes: list[Row], iou: float, image: str | None) -> Explanation:
    """The table of the steps, and the boxes before and after them on an image."""
    _check(boxes)
    steps = suppress(boxes, iou)
    rows: list[dict[str, Any]] = [
        {"step": number, "takes": step.takes, "score": boxes[step.takes][4],
         "removes (IoU)": ", ".join(f"{i} ({x:.3f})" for i, x in step.removes.items()) or "-",
         "left": _numbers(step.left) or "-"}
        for number, step in enumerate(steps, 1)
    ]  # fmt: skip
    table = torch.tensor(boxes, dtype=torch.float64)
    judge = nms(table[:, :4], table[:, 4], iou).tolist()
    kept = [step.takes for step in steps]
    lines = [f"kept: {_numbers(kept)}; torchvision.ops.nms keeps {_numbers(judge)}"]
    return Explanation(rows, _figure(read_or_draw(image), boxes, steps, iou), lines)


def _check(boxes: list[Row]) -> None:
    for number, (left, top, right, bottom, score) in enumerate(boxes):
        if not (left < right and top < bottom and 0 <= score <= 1):
            raise UserError(
                f"boxes: number {number} is {boxes[number]}, expected [x1, y1, x2, y2, score] "
                "with x1 < x2, y1 < y2 and a score from 0 to 1"
            )


def _numbers(boxes: list[int]) -> str:
    return ", ".join(map(str, boxes))


def _figure(pixels: np.ndarray, boxes: list[Row], steps: list[Step], iou: float):
    """Each box in the colour of its step: of the one that takes it, or that removes it."""
    figure = new_figure(9, 3.6)
    before, after = figure.subplots(1, 2)
    before.set_title(f"before: {len(boxes)} boxes")
    after.set_title(f"after, IoU at most {iou:g}: {len(steps)} boxes")
    for axes in (before, after):
        axes.imshow(pixels)
        axes.set(xlabel="x, pixels", ylabel="y, pixels")
    for number, step in enumerate(steps):
        colour = COLOURS[number % len(COLOURS)]
        for place, i in enumerate(step.removes, 1):
            _draw(before, i, boxes[i], colour, place)
            _draw(after, i, boxes[i], colour, None)
        for axes in (before, after):
            _draw(axes, step.takes, boxes[step.takes], colour, 0)
    return figure


def _draw(axes: Any, number: int, box: Row, colour: str, place: int | None) -> None:
    """A box, its label at the corner `place`, of which 0 is the taken one's; None: a faint one."""
    from matplotlib.patches import Rectangle

    left, top, right, bottom, score = box
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour,
                             linestyle="--" if place != 0 else "-",
                             linewidth=0.6 if place is None else 2))  # fmt: skip
    if place is not None:
        x, y = ((left, top), (right, top), (left, bottom), (right, bottom))[place % 4]
        axes.text(x, y, f"{number}: {score:g}", fontsize=7, color="white", clip_on=True,
                  ha="left" if place % 2 == 0 else "right", va="bottom" if place % 4 < 2 else "top",
                  bbox={"facecolor": colour, "edgecolor": "none", "pad": 1})  # fmt: skip
