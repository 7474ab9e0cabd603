"""Metrics of one box per image against the largest object (fast.ai's lesson 8)."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from detect.diagnosis.single import diagnose_single
from engine.protocols import OutputFields
from engine.record import Meta, ObjectTable
from engine.report.diagnosis import Diagnosis
from engine.structures import Objects


class SingleBox:
    """Mean IoU, and the mean absolute error of the corners in pixels of the network's input.

    The box of highest score in each image is compared with the largest object that is not ignored;
    images without one do not count. If nothing is predicted, the box is [0, 0, 0, 0].
    """

    primary = "iou"
    requires: ClassVar[OutputFields] = frozenset({"boxes"})
    protocol = (
        "box of highest score against the largest object, images with an object; corners in "
        "pixels of the network's input"
    )

    def __init__(self, *, classes: list[str]) -> None:
        self.classes = classes
        self.reset()

    def reset(self) -> None:
        """Discard all images."""
        self.iou, self.corners = [torch.zeros(0)], [torch.zeros(0)]  # [N] each, N images

    def update(self, predicted: Objects, true: Objects, meta: Sequence[Meta]) -> None:
        """Add a batch; boxes in pixels of the original images."""
        predicted.refuse_nan(meta)
        true.refuse_nan(meta)
        area = (true.boxes[:, 2:] - true.boxes[:, :2]).prod(1)
        largest = highest_per_image(true, area.masked_fill(true.ignore, -1), len(meta))
        counts = ~torch.cat([true.ignore, torch.tensor([True])])[largest]  # [B]; row -1: no object
        best = highest_per_image(predicted, predicted.scores, len(meta))[counts]
        largest = largest[counts]
        self.add(predicted, true, best, largest)
        boxes, truth = _with_zero_box(predicted)[best], true.boxes[largest]  # [N, 4]
        self.iou.append(box_iou(boxes, truth).diagonal())
        matrix = torch.as_tensor(np.stack([m.matrix for m in meta])).float()[counts]  # [N, 2, 3]
        error = transform_boxes(boxes, matrix) - transform_boxes(truth, matrix)
        self.corners.append(error.abs().mean(1))

    def add(self, predicted: Objects, true: Objects, best: Tensor, largest: Tensor) -> None:
        """Hook for a subclass: rows [N] of predicted (-1 for none) and true objects to compare."""

    def diagnose(
        self, predicted: ObjectTable, true: ObjectTable, images: int, numbers: dict[str, float]
    ) -> Diagnosis:
        """What is right and wrong, at IoU 0.50; the class counts where the metric needs it."""
        classes = self.classes if "logits" in self.requires else None
        return diagnose_single(classes, predicted, true, images, numbers)

    def compute(self) -> dict[str, float]:
        """`iou` in 0..1 and `corner_error` in pixels."""
        iou, corners = torch.cat(self.iou), torch.cat(self.corners)
        count = max(len(iou), 1)
        return {"iou": float(iou.sum()) / count, "corner_error": float(corners.sum()) / count}


def highest_per_image(objects: Objects, key: Tensor, batch: int) -> Tensor:
    """The row [B] of each image's object of highest key, the first of ties; -1 without any."""
    order = np.lexsort((-key.numpy(), objects.batch_index.numpy()))  # stable
    images, first = np.unique(objects.batch_index.numpy()[order], return_index=True)
    rows = torch.full((batch,), -1)
    rows[torch.as_tensor(images)] = torch.as_tensor(order[first])
    return rows


def _with_zero_box(objects: Objects) -> Tensor:
    """The boxes [M + 1, 4], with [0, 0, 0, 0] at row -1."""
    return torch.cat([objects.boxes, torch.zeros(1, 4)])


def transform_boxes(boxes: Tensor, matrix: Tensor) -> Tensor:
    """Boxes [N, 4] with the corners mapped by the affine matrices [N, 2, 3]."""
    corners = boxes.view(-1, 2, 2) @ matrix[:, :, :2].mT + matrix[:, :, 2][:, None]  # [N, 2, xy]
    return corners.flatten(1)
