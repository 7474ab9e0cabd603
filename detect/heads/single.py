"""A head of one slot per image, which predicts class, box, or both of the largest object.

The two-layer head of fast.ai's lesson 8 (2018). Deviations: the map is average-pooled to a grid, so
that any image size fits (grid 7 keeps the last map of a 224 x 224 image as it is), and the initial
box is the middle half of the image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from classify.heads.classification import linear, whole_image
from classify.top_classes import TopClasses
from detect.coder import SigmoidCoder
from detect.findings import BoxFindings
from detect.matching import gather_boxes
from engine.config.ranges import Channels, Classes, Count, Grid, PartialShare
from engine.errors import UserError
from engine.protocols import OutputFields
from engine.structures import BACKGROUND, IGNORE, Assigned, Objects, Output


class Single(BoxFindings, nn.Module):
    """Average pooling to a grid, a hidden layer, a linear layer.

    Args:
        predict_classes: whether it predicts a class.
        predict_boxes: whether it predicts a box, by `detect.coder.SigmoidCoder`.
        grid: side of the grid; 1 is global pooling, which loses most of where things are.
        hidden: width of the hidden layer.
        dropout: probability of dropout before each linear layer.
        top: number of classes per image that are decoded, all with the same box.
    """

    single, score_key = True, ""

    def __init__(
        self,
        *,
        channels: Sequence[int],
        num_classes: Classes,
        activation: str,
        predict_classes: bool = True,
        predict_boxes: bool = True,
        grid: Grid = 7,
        hidden: Channels = 256,
        dropout: PartialShare = 0.5,
        top: Count = 100,
    ) -> None:
        super().__init__()
        self.outputs = self.output_fields(
            predict_classes=predict_classes, predict_boxes=predict_boxes
        )
        self.activation = activation
        top = min(top, num_classes)
        self.postprocess = TopClasses(top=top, named=predict_classes)
        self.coder = SigmoidCoder()
        self.protocol = f"the best {top} classes of an image, one box"
        self.num_logits = num_classes * predict_classes
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(grid),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(channels[-1] * grid**2, hidden),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(hidden),
            nn.Dropout(dropout),
            last := linear(hidden, self.num_logits + 4 * predict_boxes),
        )
        if predict_boxes:
            middle = torch.tensor([0.25, 0.25, 0.75, 0.75])
            last.bias.data[self.num_logits :] = middle.logit()

    @staticmethod
    def output_fields(*, predict_classes: bool = True, predict_boxes: bool = True) -> OutputFields:
        """Fields of Output that a head with these arguments fills; UserError if none."""
        if not predict_classes and not predict_boxes:
            raise UserError(
                "head.predict_classes=false, head.predict_boxes=false: expected at least one true"
            )
        return frozenset(["logits"] * predict_classes + ["boxes"] * predict_boxes)

    def forward(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """One slot, the whole image."""
        y = self.layers(features[-1])[:, None]  # [B, 1, K + 4]
        whole = whole_image(y, image_size)
        return Output(
            y[..., : self.num_logits] if "logits" in self.outputs else None,  # type: ignore[arg-type]
            y[..., self.num_logits :] if "boxes" in self.outputs else None,  # type: ignore[arg-type]
            slots=whole,
            cells=whole[:, 2:],
            coder=self.coder,
            size=image_size,
        )

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """Assign each image its largest object.

        IGNORE where all its objects are ignored, BACKGROUND where it has none.
        """
        batch = next(len(x) for x in output[:2] if x is not None)
        matched_gt = largest_object(objects, batch)[:, None]  # [B, 1]
        unmatched = matched_gt.new_full((batch,), BACKGROUND)
        ignored = torch.where(objects.ignore, IGNORE, BACKGROUND)
        unmatched.scatter_reduce_(0, objects.batch_index, ignored, "amin")
        stub = objects.labels.new_zeros(1)
        labels = torch.cat([objects.labels, stub])[matched_gt]
        labels = torch.where(matched_gt < 0, unmatched[:, None], labels)
        if "boxes" not in self.outputs:
            return Assigned(labels)
        truth = gather_boxes(objects, matched_gt)  # [B, 1, 4]
        return Assigned(labels, self.coder.encode(truth, output.slots, output.cells))

    def candidates(self, output: Output) -> tuple[Tensor, Tensor]:
        """One box an image [B, 1, 4] and its scores [B, 1, K]; without classes [B, 1, 1] of 1."""
        if "boxes" not in self.outputs:
            return output.slots.expand(output.logits.shape[0], 1, 4), self._scores(output.logits)
        boxes = output.decoded(output.boxes)  # [B, 1, 4]
        if "logits" not in self.outputs:
            return boxes, torch.ones_like(boxes[..., :1])
        return boxes, self._scores(output.logits)

    def _scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1) if self.activation == "softmax" else logits.sigmoid()

    def decode(self, output: Output) -> Objects:
        """The `top` classes of each image, best first; without classes one box of BACKGROUND."""
        return self.postprocess(*self.candidates(output))


def largest_object(objects: Objects, batch: int) -> Tensor:
    """The row [B] of each image's largest object, -1 where it has none.

    By area of the box; ignored objects do not count, and of equal areas the first wins.
    """
    count = len(objects)
    area = (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(1).masked_fill(objects.ignore, -1)
    best = area.new_full((batch,), -1).scatter_reduce_(0, objects.batch_index, area, "amax")  # [B]
    wins = (area == best[objects.batch_index]) & ~objects.ignore  # [M]
    rows = torch.arange(count, device=area.device)
    first = rows.new_full((batch,), count)
    first.scatter_reduce_(0, objects.batch_index, torch.where(wins, rows, count), "amin")
    return torch.where(first < count, first, -1)
