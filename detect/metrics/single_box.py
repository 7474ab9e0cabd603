"""How well one box an image fits the largest object (fast.ai's lesson 8)."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from engine.protocols import OutputFields
from engine.structures import Meta, Objects, refuse_nan


class SingleBox:
    """Mean IoU, and the mean absolute error of the corners in pixels of the network's input.

    Each image's best scored box is held against the largest object that is not ignored; images
    without one do not count. Where nothing was predicted, the box is a point in the corner.
    """

    primary = "iou"
    requires: ClassVar[OutputFields] = frozenset({"boxes"})
    protocol = (
        "the best scored box against the largest object, images with an object; corners in "
        "pixels of the network's input"
    )

    def __init__(self, *, classes: list[str]) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.iou, self.corners = [torch.zeros(0)], [torch.zeros(0)]  # [N], [N] of each image

    def update(self, predicted: Objects, true: Objects, meta: Sequence[Meta]) -> None:
        """Note each image of a batch; boxes in pixels of the originals."""
        refuse_nan(predicted, meta)
        refuse_nan(true, meta)
        area = (true.boxes[:, 2:] - true.boxes[:, :2]).prod(1)
        there = first_of_each(true, area.masked_fill(true.ignore, -1), len(meta))
        seen = ~torch.cat([true.ignore, torch.tensor([True])])[there]  # -1, none, is the last
        best = first_of_each(predicted, predicted.scores, len(meta))
        self.note(predicted, true, best[seen], there[seen])
        say, want = with_nothing(predicted)[best[seen]], true.boxes[there[seen]]  # [N, 4]
        self.iou.append(box_iou(say, want).diagonal())
        matrix = torch.as_tensor(np.stack([m.matrix for m in meta])).float()[seen]  # [N, 2, 3]
        self.corners.append((moved(say, matrix) - moved(want, matrix)).abs().mean(1))

    def note(self, predicted: Objects, true: Objects, best: Tensor, there: Tensor) -> None:
        """Room for a subclass: rows [N] of the predicted (-1 for none) and of the true objects."""

    def compute(self) -> dict[str, float]:
        """`iou` in 0..1 and `corner_error` in pixels."""
        iou, corners = torch.cat(self.iou), torch.cat(self.corners)
        count = max(len(iou), 1)
        return {"iou": float(iou.sum()) / count, "corner_error": float(corners.sum()) / count}


def first_of_each(objects: Objects, key: Tensor, batch: int) -> Tensor:
    """The row [B] of each image's object of the highest key, the first of equals; else -1."""
    order = np.lexsort((-key.numpy(), objects.batch_index.numpy()))  # stable
    images, first = np.unique(objects.batch_index.numpy()[order], return_index=True)
    rows = torch.full((batch,), -1)
    rows[torch.as_tensor(images)] = torch.as_tensor(order[first])
    return rows


def with_nothing(objects: Objects) -> Tensor:
    """The boxes [M + 1, 4], the last, at -1, a point in the corner."""
    return torch.cat([objects.boxes, torch.zeros(1, 4)])


def moved(boxes: Tensor, matrix: Tensor) -> Tensor:
    """Corners [N, 4] by the affine maps [N, 2, 3] to the network's input."""
    corners = boxes.view(-1, 2, 2) @ matrix[:, :, :2].mT + matrix[:, :, 2][:, None]  # [N, 2, xy]
    return corners.flatten(1)
