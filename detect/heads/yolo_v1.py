"""The YOLOv1 head (arXiv 1506.02640, 2): fully connected, a grid of cells, two boxes per cell.

Deviations: any backbone, its map average-pooled to the grid if it has another size; batch
normalisation in the extra convolutions. With loss=yolo_v1 all outputs are linear, as published;
objectness and classes are then probabilities, clamped to 0..1. With another loss they are logits.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detect.anchors import grid_anchors
from detect.coder import SqrtCoder
from detect.findings import BoxFindings
from detect.heads.yolo_slots import (
    assign_closest,
    center_in_cell,
    class_scores,
    conv,
    elementwise_iou,
)
from detect.matching import assign_labels, gather_boxes
from detect.postprocess import Postprocess
from detect.slot_cache import SlotCache, Slots
from engine.config.ranges import BoxClasses, Channels, Grid, Layers, PartialShare, Range
from engine.errors import UserError
from engine.structures import BACKGROUND, IGNORE, Assigned, Objects, Output


class YOLOv1(BoxFindings, nn.Module):
    """Each cell predicts one class, and several boxes with their objectness.

    Args:
        grid: cells per side (S); boxes_per_cell: B.
        convolutions: number of 3x3 convolutions before the fully connected layers; the second has
            stride 2.
        conv_channels: their channels; hidden: width of the first fully connected layer.
        dropout: probability of dropout after that layer.
    """

    outputs = frozenset({"logits", "boxes", "objectness"})

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: BoxClasses,
        activation: str,
        grid: Grid = 7,
        boxes_per_cell: Annotated[int, Range(1, 100)] = 2,
        convolutions: Layers = 4,
        conv_channels: Channels = 1024,
        hidden: Channels = 4096,
        dropout: PartialShare = 0.5,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__()
        if min(grid, boxes_per_cell, conv_channels, hidden) < 1 or convolutions < 0:
            raise UserError(
                f"head: got grid={grid}, boxes_per_cell={boxes_per_cell}, "
                f"conv_channels={conv_channels}, hidden={hidden}, convolutions={convolutions}: "
                "expected at least 1 (convolutions: 0)"
            )
        if not 0 <= dropout < 1:
            raise UserError(f"head.dropout={dropout}: expected a probability from 0 to below 1")
        if not strides[-1]:
            raise UserError(
                "head yolo_v1 needs a map of cells; the backbone's last has one cell: pick another "
                "backbone="
            )
        self.activation, self.num_classes = activation, num_classes
        self.grid, self.boxes_per_cell = grid, boxes_per_cell
        self.coder, self.postprocess = SqrtCoder(grid=grid), postprocess or Postprocess()
        self.protocol, self.slot_cache = self.postprocess.protocol, SlotCache()
        widths = [channels[-1], *[conv_channels] * convolutions]
        self.convolutions = nn.Sequential(
            *(conv(widths[i], conv_channels, 3, stride=1 + (i == 1)) for i in range(convolutions))
        )
        self.connected = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * grid**2, hidden),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, grid**2 * (5 * boxes_per_cell + num_classes)),
        )

    def forward(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """Slots are cells row by row, each with its boxes in turn, which share its class logits."""
        x = F.adaptive_avg_pool2d(self.convolutions(features[-1]), self.grid)  # [B, D, S, S]
        y = self.connected(x).view(x.shape[0], self.grid**2, -1)  # [B, S * S, K + 5 n]
        logits = y[..., : self.num_classes].repeat_interleave(self.boxes_per_cell, 1)  # [B, A, K]
        boxes = y[..., self.num_classes :].reshape(x.shape[0], -1, 5)  # [B, A, 5]
        slots, cells = self.slot_cache(y, image_size, partial(self._slots, image_size))
        code, objectness = boxes[..., :4], boxes[..., 4]
        return Output(logits, code, objectness, slots, cells, self.coder, image_size)

    def _slots(self, image_size: tuple[int, int]) -> Slots:
        cell = torch.tensor([side / self.grid for side in image_size[::-1]])
        sizes = cell.expand(self.boxes_per_cell, 2)
        return grid_anchors((self.grid, self.grid), sizes, image_size)

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """Assign each object to the cell of its centre; the cell's best box is responsible for it.

        Of objects in the same cell the last gets it; a cell with ignored objects only is IGNORE.
        `iou` is that of each predicted box with its cell's object.
        """
        batch = len(output.logits)
        in_cell = center_in_cell(output, objects).float()  # [M, A]
        matches = assign_closest(in_cell, objects, batch)
        matched_gt, ignored_gt = (self._whole_cell(x) for x in matches)  # [B, A]
        truth, predicted = gather_boxes(objects, matched_gt), output.decoded(output.boxes)
        iou = elementwise_iou(predicted, truth)  # [B, A]
        matched = matched_gt >= 0
        positive = (self._responsible(predicted, truth, iou) & matched).float()
        labels = assign_labels(positive, matched_gt, objects, positive=0.5, negative=0.5)
        ignored = (labels == BACKGROUND) & ~matched & (ignored_gt >= 0)
        code = self.coder.encode(truth, output.slots, output.cells)
        return Assigned(torch.where(ignored, IGNORE, labels), code, iou=iou * matched)

    def _whole_cell(self, x: Tensor) -> Tensor:
        """[B, A] with the value of each cell's first slot for all slots of the cell."""
        return x[:, :: self.boxes_per_cell].repeat_interleave(self.boxes_per_cell, 1)

    def _responsible(self, predicted: Tensor, truth: Tensor, iou: Tensor) -> Tensor:
        """Mask [B, A]: the box of highest IoU in each cell; if none overlaps, the nearest one."""
        distance = (predicted - truth).square().sum(-1).sqrt()  # of corners
        closeness = torch.where(iou > 0, iou, -distance)
        best = closeness.view(len(iou), -1, self.boxes_per_cell).argmax(-1)  # [B, S * S]
        return F.one_hot(best, self.boxes_per_cell).flatten(1).bool()

    def candidates(self, output: Output) -> tuple[Tensor, Tensor]:
        """Boxes [B, A, 4] and scores [B, A, K] of all slots: objectness times class score."""
        return output.decoded(output.boxes), class_scores(output, self.activation)

    def decode(self, output: Output) -> Objects:
        """Detections: the candidates after NMS."""
        return self.postprocess(*self.candidates(output))
