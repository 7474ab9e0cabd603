"""The YOLOv1 head (arXiv 1506.02640, 2): fully connected, a grid of cells, two boxes a cell.

Deviations: any backbone, its map averaged onto the grid where it is of another size; batch
normalisation in the extra convolutions. With loss=yolo_v1 all outputs are linear, as published;
objectness and classes are then read as shares, cut to 0..1. Under another loss they are logits.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detect.anchors import grid_anchors
from detect.coder import SqrtCoder
from detect.heads.yolo_slots import assign_closest, center_in_cell, conv, overlap, scores
from detect.matching import gather_boxes, labels
from detect.postprocess import Postprocess
from engine.errors import UserError
from engine.structures import BACKGROUND, IGNORE, Assigned, Objects, Output


class YOLOv1(nn.Module):
    """Each cell says one class, and several boxes with their objectness.

    Args:
        grid: cells a side (S); boxes_per_cell: B.
        convolutions: 3x3, before the fully connected layers; the second has stride 2.
        conv_channels: of these; hidden: of the first fully connected layer.
        dropout: behind it.
    """

    outputs = frozenset({"logits", "boxes", "objectness"})

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        activation: str,
        grid: int = 7,
        boxes_per_cell: int = 2,
        convolutions: int = 4,
        conv_channels: int = 1024,
        hidden: int = 4096,
        dropout: float = 0.5,
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
            raise UserError(f"head.dropout={dropout}: expected a share from 0 to below 1")
        if not strides[-1]:
            raise UserError(
                "head yolo_v1 needs a map of cells, the backbone's last has one cell: pick another "
                "backbone="
            )
        self.activation, self.num_classes = activation, num_classes
        self.grid, self.each = grid, boxes_per_cell
        self.coder, self.postprocess = SqrtCoder(grid=grid), postprocess or Postprocess()
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
        """Cells row by row, the boxes of a cell together; they share its class logits."""
        x = F.adaptive_avg_pool2d(self.convolutions(features[-1]), self.grid)  # [B, D, S, S]
        y = self.connected(x).view(len(x), self.grid**2, -1)  # [B, S * S, K + 5 n]
        logits = y[..., : self.num_classes].repeat_interleave(self.each, 1)  # [B, A, K]
        said = y[..., self.num_classes :].reshape(len(x), -1, 5)  # [B, A, 5]
        cell = torch.tensor([side / self.grid for side in image_size[::-1]])
        slots, cells = grid_anchors((self.grid, self.grid), cell.expand(self.each, 2), image_size)
        slots, cells = slots.to(y.device), cells.to(y.device)
        code, objectness = said[..., :4], said[..., 4]
        return Output(logits, code, objectness, slots, cells, self.coder, image_size)

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """The cell that holds an object's centre answers for it, by the best of its boxes.

        Of the objects in a cell the last holds it; where only ignored ones are, the cell is left
        out. `iou` is each predicted box's overlap with its cell's object.
        """
        batch = len(output.logits)
        held = center_in_cell(output, objects).float()  # [M, A]
        owner, ignored = (self._cell(x) for x in assign_closest(held, objects, batch))  # [B, A]
        truth, predicted = gather_boxes(objects, owner), output.decoded(output.boxes)  # [B, A, 4]
        iou = overlap(predicted, truth)
        positive = self._responsible(predicted, truth, iou) & (owner >= 0)
        found = labels(positive.float(), owner, objects, positive=0.5, negative=0.5)
        spared = (found == BACKGROUND) & (owner < 0) & (ignored >= 0)
        code = self.coder.encode(truth, output.slots, output.cells)
        return Assigned(torch.where(spared, IGNORE, found), code, iou=iou * (owner >= 0))

    def _cell(self, owner: Tensor) -> Tensor:
        """What is said of a cell's first slot [B, A], said of all of its slots."""
        return owner[:, :: self.each].repeat_interleave(self.each, 1)

    def _responsible(self, predicted: Tensor, truth: Tensor, iou: Tensor) -> Tensor:
        """Mask [B, A]: the best box of each cell; where none overlaps, the nearest by corners."""
        far = (predicted - truth).square().sum(-1).sqrt()
        close = torch.where(iou > 0, iou, -far)
        best = close.view(len(iou), -1, self.each).argmax(-1)  # [B, S * S]
        return F.one_hot(best, self.each).flatten(1).bool()

    def decode(self, output: Output) -> Objects:
        """Objectness times class score of every box, suppressed."""
        return self.postprocess(output.decoded(output.boxes), scores(output, self.activation))
