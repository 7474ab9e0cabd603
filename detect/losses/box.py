"""Box regression losses of the positive slots, on the box code or on the decoded boxes.

A loss is summed over the four numbers of a box, multiplied by the slot's weight if the head gives
one, and averaged over the positive slots.
"""

from math import pi
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detect.matching import box_loss_rows
from engine.config.ranges import NonNegative, Positive
from engine.distributed.collectives import mean_count
from engine.errors import UserError
from engine.structures import Assigned, Output

SPACES = ("code", "box")
EPS = 1e-6  # pixels or square pixels: no division by 0 for a box without area


class BoxLoss(nn.Module):
    """Base class of the box losses; a subclass computes the loss of each slot.

    Args:
        weight: of the term.
    """

    def __init__(self, *, weight: NonNegative = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, output: Output, assigned: Assigned) -> Tensor:
        """The loss, a scalar; 0 if no slot is positive."""
        positive = assigned.labels >= 0  # [B, A]
        rows = box_loss_rows(assigned.labels)  # [P]
        output, assigned = _select(output, assigned, rows)
        losses = self.per_slot(output, assigned) * positive.flatten()[rows]
        if assigned.weight is not None:
            losses = losses * assigned.weight
        return self.weight * losses.sum() / mean_count(positive.sum())

    def per_slot(self, output: Output, assigned: Assigned) -> Tensor:
        """The loss [P] of each slot, finite for all; fields of the arguments are [P, ..]."""
        raise NotImplementedError


def _select(output: Output, assigned: Assigned, rows: Tensor) -> tuple[Output, Assigned]:
    """Rows [P] of the flattened [B, A] of all fields that a box loss reads."""

    def of_batch(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.flatten(0, 1).index_select(0, rows)

    def shared(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.index_select(0, rows % len(x))

    pred: dict[str, Any] = {"boxes": of_batch(output.boxes)}
    pred |= {name: shared(getattr(output, name)) for name in ("slots", "cells")}
    fields = ("labels", "boxes", "weight")
    target: dict[str, Any] = {name: of_batch(getattr(assigned, name)) for name in fields}
    return output._replace(**pred), assigned._replace(**target)


class Distance(BoxLoss):
    """Base class of losses that compare the four numbers of a box, by a subclass's `elementwise`.

    Args:
        space: `code`, the network's output; or `box`, the decoded corners, relative to the image's
            sides.
        side: in `box`, the length of a side: 1, or 224 for pixels of a 224 x 224 image.
        weight: of the term; .25 makes the sum over a box a mean.
    """

    def __init__(
        self, *, space: str = "code", side: Positive = 1.0, weight: NonNegative = 1.0
    ) -> None:
        super().__init__(weight=weight)
        if space not in SPACES:
            raise UserError(f"loss.box.space={space}: expected one of {', '.join(SPACES)}")
        self.space, self.side = space, side

    def per_slot(self, output: Output, assigned: Assigned) -> Tensor:
        """The sum [P] over each box."""
        pred, target = output.boxes, assigned.boxes
        if self.space == "box":
            assert output.size is not None
            height, width = output.size
            # filled, for a list would be copied to the device in every step
            scale = output.slots.new_empty(4)
            scale[0::2], scale[1::2] = self.side / width, self.side / height
            pred, target = output.decoded(pred) * scale, output.decoded(target) * scale
        return self.elementwise(pred, target).sum(-1)

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss of each number; same shape as both arguments."""
        raise NotImplementedError


class L1(Distance):
    """The absolute difference."""

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """|pred - target|."""
        return (pred - target).abs()


class MSE(Distance):
    """The squared difference."""

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(pred - target) ** 2."""
        return (pred - target).square()


class SmoothL1(Distance):
    """Huber's loss over `beta` (arXiv 1504.08083, 2.3).

    Args:
        beta: difference at which the square becomes a line, in units of the space.
        space, side, weight: as in Distance.
    """

    def __init__(
        self,
        *,
        beta: NonNegative = 1.0,
        space: str = "code",
        side: Positive = 1.0,
        weight: NonNegative = 1.0,
    ) -> None:
        super().__init__(space=space, side=side, weight=weight)
        self.beta = beta

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """Smooth L1."""
        return F.smooth_l1_loss(pred, target, beta=self.beta, reduction="none")


class Overlap:
    """IoU and related measures [..] of two boxes [.., 4], xyxy."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b = a, b
        inner = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
        outer = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
        inter = area(inner.clamp(min=0))
        self.union = area(sides(a)) + area(sides(b)) - inter
        self.iou = inter / self.union.clamp(min=EPS)
        self.hull = area(outer)  # of the smallest box around both
        self.diagonal = outer.square().sum(-1)  # of that box, squared
        # of the centres, squared
        self.distance = ((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2).square().sum(-1)


def sides(boxes: Tensor) -> Tensor:
    """(width, height) [.., 2] of boxes [.., 4]."""
    return boxes[..., 2:] - boxes[..., :2]


def area(sides: Tensor) -> Tensor:
    """Area [..] of (width, height) [.., 2]; not by `prod`, whose gradient syncs the device."""
    return sides[..., 0] * sides[..., 1]


class GIoU(BoxLoss):
    """1 - IoU + the fraction of the boxes' hull that neither covers (arXiv 1902.09630, alg. 1)."""

    def per_slot(self, output: Output, assigned: Assigned) -> Tensor:
        """The loss [P], in 0..2."""
        return self.of_pair(Overlap(output.decoded(output.boxes), output.decoded(assigned.boxes)))

    def of_pair(self, pair: Overlap) -> Tensor:
        """The loss [P] of predicted and true boxes, one pair per slot."""
        return 1 - pair.iou + (pair.hull - pair.union) / pair.hull.clamp(min=EPS)


class DIoU(GIoU):
    """1 - IoU + (centres' distance / hull's diagonal) ** 2 (arXiv 1911.08287, eq. 7)."""

    def of_pair(self, pair: Overlap) -> Tensor:
        """The loss [P], in 0..2."""
        return 1 - pair.iou + pair.distance / pair.diagonal.clamp(min=EPS)


class CIoU(DIoU):
    """DIoU + a term for the difference of aspect ratios (arXiv 1911.08287, eq. 8 to 11)."""

    def of_pair(self, pair: Overlap) -> Tensor:
        """The loss [P], in 0..3."""
        (w, h), (true_w, true_h) = (sides(x).clamp(min=EPS).unbind(-1) for x in (pair.a, pair.b))
        v = 4 / pi**2 * (torch.atan(w / h) - torch.atan(true_w / true_h)).square()
        alpha = (v / (1 - pair.iou + v).clamp(min=EPS)).detach()  # a weight, without gradient
        return super().of_pair(pair) + alpha * v
