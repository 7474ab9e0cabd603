"""Exact IoUs of the few pairs of slot and object that can matter to matching; for the CPU.

Slots are sorted into spans of similar boxes, as in a k-d tree (Bentley, 1975). The hull of a span
bounds the IoU of each of its slots, so that most spans can be skipped (branch and bound). How many
cannot depends on the data; reading that number would make another device wait.
"""

from collections.abc import Iterator
from math import floor, log

import torch
from torch import Tensor

SPAN = 32  # slots per span, at least
CACHED = 1 << 17  # numbers computed at a time: what fits the CPU's cache
TINY = 1e-30  # the least IoU that counts as overlap
SLACK = 1 + 1e-5  # by which bounds are raised, for rounding errors


def sparse_iou_cpu(
    slots: Tensor, boxes: Tensor, least: float
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """All IoUs above 0 that are at least `least`, and the largest of each box in any case.

    Args:
        slots: [A, 4].
        boxes: [M, 4].
        least: IoU in 0..1; at 0 all overlapping pairs are found, which takes longer.

    Yields:
        for some of the boxes at a time: IoU, row of the box, row of the slot, and whether it is
        the largest of its box, all [h]. Some IoUs below `least` may be among them.
    """
    least = max(least, TINY)
    spans = _spans(slots)  # [G, S]
    members = _with_area(slots[spans].movedim(2, 1))  # [G, 5, S]
    hulls = _hulls(members)
    for rows in torch.arange(len(boxes)).split(max(1, CACHED // len(spans))):
        chunk = _with_area(boxes[rows])  # [m, 5]
        bound = _bound(chunk, hulls)  # [m, G]
        best = _iou(chunk, members.index_select(0, bound.argmax(1))).amax(1).clamp_(min=TINY)
        pairs = (bound >= best.clamp(max=least)[:, None]).nonzero()
        hits = []
        for row, span in (part.unbind(1) for part in pairs.split(CACHED // spans.shape[1] + 1)):
            iou = _iou(chunk.index_select(0, row), members.index_select(0, span))  # [p, S]
            best.scatter_reduce_(0, row, iou.amax(1), "amax")
            pair, member = (iou >= best.clamp(max=least)[row, None]).nonzero().unbind(1)
            hits.append((iou[pair, member], row[pair], spans[span[pair], member]))
        iou, row, slot = (torch.cat(parts) for parts in zip(*hits, strict=True))
        yield iou, rows[row], slot, iou == best[row]


def _with_area(boxes: Tensor) -> Tensor:
    """Boxes [n, 4, ..] with their area appended: [n, 5, ..]."""
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)], 1)


def _spans(slots: Tensor) -> Tensor:
    """Rows of slots [G, S]: split in three, again and again, along what varies most.

    The last row repeats so that spans have equal length. Splitting in two makes tighter spans with
    more sorts; with 8732 slots, three is fastest in total.
    """
    low, high = slots.split(2, 1)
    # Split by corners instead, twice as many pairs would be left to compare.
    features = torch.cat([(low + high) / 2, high - low], 1)  # [A, 4]
    levels = max(0, floor(log(len(slots) / SPAN, 3)))
    padding = torch.full((-len(slots) % 3**levels,), len(slots) - 1)
    spans = torch.cat([torch.arange(len(slots)), padding])[None]
    for _ in range(levels):
        inside = features[spans]  # [G, S, 4]
        widest = (inside.amax(1) - inside.amin(1)).argmax(1)  # [G]
        along = inside.gather(2, widest[:, None, None].expand(*spans.shape, 1))[..., 0]
        spans = spans.gather(1, along.argsort(1)).view(3 * len(spans), -1)
    return spans


def _hulls(members: Tensor) -> Tensor:
    """Corners of each span's hull, its least area and its largest width and height [7, G]."""
    x1, y1, x2, y2, area = members.unbind(1)  # [G, S]
    low = (x.amin(1) for x in (x1, y1))
    high = (x.amax(1) for x in (x2, y2))
    return torch.stack([*low, *high, area.amin(1), (x2 - x1).amax(1), (y2 - y1).amax(1)])


def _bound(boxes: Tensor, hulls: Tensor) -> Tensor:
    """Upper bounds [m, G] of the IoUs of boxes [m, 5] with the slots of each span."""
    a, b, c, d, box_area = boxes.T[..., None]
    x1, y1, x2, y2, area, widest, highest = hulls
    inter = torch.minimum(c, x2).sub_(torch.maximum(a, x1)).minimum(widest).clamp_(min=0)
    inter.mul_(torch.minimum(d, y2).sub_(torch.maximum(b, y1)).minimum(highest))
    union = torch.maximum(inter, area).add_(box_area).sub_(inter)
    return inter.mul_(SLACK).div_(union)


def _iou(boxes: Tensor, slots: Tensor) -> Tensor:
    """IoU [p, S] of boxes [p, 5] and slots [p, 5, S]; may be below 0 instead of 0."""
    a, b, c, d, box_area = boxes.T[..., None]
    x1, y1, x2, y2, area = slots.unbind(1)
    inter = torch.minimum(c, x2).sub_(torch.maximum(a, x1)).clamp_(min=0)
    inter.mul_(torch.minimum(d, y2).sub_(torch.maximum(b, y1)))
    union = (box_area + area).sub_(inter)
    return inter.div_(union)
