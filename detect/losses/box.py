"""Losses of the positive slots' boxes: of their code, or of the boxes that it decodes to.

Each is summed over a box, times the slot's weight where the head gives one, and averaged over the
positive slots.
"""

from math import pi
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detect.matching import box_loss_rows
from engine.distributed.collectives import mean_count
from engine.errors import UserError
from engine.structures import Assigned, Output

SPACES = ("code", "box")
EPS = 1e-6  # pixels or square pixels: a box without area must not divide by 0


class BoxLoss(nn.Module):
    """What the losses share; a subclass says the loss of every slot.

    Args:
        weight: of the term.
    """

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, output: Output, assigned: Assigned) -> Tensor:
        """A scalar; 0 where no slot is positive."""
        positive = assigned.labels >= 0  # [B, A]
        rows = box_loss_rows(assigned.labels)  # [P]
        output, assigned = _only(output, assigned, rows)
        losses = self.slots(output, assigned) * positive.flatten()[rows]
        if assigned.weight is not None:
            losses = losses * assigned.weight
        return self.weight * losses.sum() / mean_count(positive.sum())

    def slots(self, output: Output, assigned: Assigned) -> Tensor:
        """The loss [P], finite for all; of both, what there is a slot of is [P, ..]."""
        raise NotImplementedError


def _only(output: Output, assigned: Assigned, rows: Tensor) -> tuple[Output, Assigned]:
    """What the box term reads, at rows [P] of the flattened [B, A]."""

    def of(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.flatten(0, 1).index_select(0, rows)

    def placed(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.index_select(0, rows % len(x))

    said: dict[str, Any] = {"boxes": of(output.boxes)}
    said |= {name: placed(getattr(output, name)) for name in ("slots", "cells")}
    wanted: dict[str, Any] = {n: of(getattr(assigned, n)) for n in ("labels", "boxes", "weight")}
    return output._replace(**said), assigned._replace(**wanted)


class Distance(BoxLoss):
    """Four numbers held against four numbers, by a subclass's `gap`.

    Args:
        space: `code`, what the network says; or `box`, the corners that it decodes to, in shares
            of the image's sides.
        side: in `box`, what a side counts: 1 for shares, 224 for pixels of a 224 x 224 image.
        weight: of the term; .25 makes the sum over a box its mean.
    """

    def __init__(self, *, space: str = "code", side: float = 1.0, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        if space not in SPACES:
            raise UserError(f"loss.box.space={space}: expected one of {', '.join(SPACES)}")
        self.space, self.side = space, side

    def slots(self, output: Output, assigned: Assigned) -> Tensor:
        """The sum over a box [P]."""
        said, want = output.boxes, assigned.boxes
        if self.space == "box":
            assert output.size is not None
            height, width = output.size
            scale = self.side / output.slots.new_tensor([width, height, width, height])
            said, want = output.decoded(said) * scale, output.decoded(want) * scale
        return self.gap(said, want).sum(-1)

    def gap(self, said: Tensor, want: Tensor) -> Tensor:
        """Elementwise."""
        raise NotImplementedError


class L1(Distance):
    """The absolute difference."""

    def gap(self, said: Tensor, want: Tensor) -> Tensor:
        """|said - want|."""
        return (said - want).abs()


class MSE(Distance):
    """The squared difference."""

    def gap(self, said: Tensor, want: Tensor) -> Tensor:
        """(said - want) ** 2."""
        return (said - want).square()


class SmoothL1(Distance):
    """Huber's loss over `beta` (arXiv 1504.08083, 2.3).

    Args:
        beta: where the square turns into a line, in units of the space.
        space, side, weight: as in Distance.
    """

    def __init__(
        self, *, beta: float = 1.0, space: str = "code", side: float = 1.0, weight: float = 1.0
    ) -> None:
        super().__init__(space=space, side=side, weight=weight)
        self.beta = beta

    def gap(self, said: Tensor, want: Tensor) -> Tensor:
        """Elementwise."""
        return F.smooth_l1_loss(said, want, beta=self.beta, reduction="none")


class Overlap:
    """What two boxes [.., 4] share, xyxy; every field is [..]."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b = a, b
        inner = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
        outer = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
        both = area(inner.clamp(min=0))
        self.union = area(sides(a)) + area(sides(b)) - both
        self.iou = both / self.union.clamp(min=EPS)
        self.hull = area(outer)  # of the smallest box around both
        self.diagonal = outer.square().sum(-1)  # of that box, squared
        self.distance = ((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2).square().sum(-1)


def sides(boxes: Tensor) -> Tensor:
    """(width, height) [.., 2]."""
    return boxes[..., 2:] - boxes[..., :2]


def area(sides: Tensor) -> Tensor:
    """[..] from (width, height) [.., 2]; the gradient of `prod` would sync the device."""
    return sides[..., 0] * sides[..., 1]


class GIoU(BoxLoss):
    """1 - IoU + the share of the boxes' hull that neither covers (arXiv 1902.09630, alg. 1)."""

    def slots(self, output: Output, assigned: Assigned) -> Tensor:
        """In 0..2."""
        return self.compare(Overlap(output.decoded(output.boxes), output.decoded(assigned.boxes)))

    def compare(self, pair: Overlap) -> Tensor:
        """Of one pair of boxes a slot [P]."""
        return 1 - pair.iou + (pair.hull - pair.union) / pair.hull.clamp(min=EPS)


class DIoU(GIoU):
    """1 - IoU + the centres' distance over the hull's diagonal (arXiv 1911.08287, eq. 7)."""

    def compare(self, pair: Overlap) -> Tensor:
        """In 0..2."""
        return 1 - pair.iou + pair.distance / pair.diagonal.clamp(min=EPS)


class CIoU(DIoU):
    """DIoU and how far apart the ratios of the sides are (arXiv 1911.08287, eq. 8 to 11)."""

    def compare(self, pair: Overlap) -> Tensor:
        """In 0..3."""
        (w, h), (true_w, true_h) = (sides(x).clamp(min=EPS).unbind(-1) for x in (pair.a, pair.b))
        apart = 4 / pi**2 * (torch.atan(w / h) - torch.atan(true_w / true_h)).square()
        share = (apart / (1 - pair.iou + apart).clamp(min=EPS)).detach()  # a factor, not a term
        return super().compare(pair) + share * apart
