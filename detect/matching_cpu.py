"""The overlaps that can matter to assignment, of a few slots in a hundred: exact, for the CPU.

Slots are put into spans of boxes alike, as in a k-d tree (Bentley, 1975). What holds all of a span
bounds the overlap of each of them, so that most spans need no closer look (branch and bound). How
many do is data, and reading it would make another device wait.
"""

from collections.abc import Iterator
from math import floor, log

import torch
from torch import Tensor

SPAN = 32  # slots of a span, at least
CACHED = 1 << 17  # numbers computed at a time: what stays in the cache
TINY = 1e-30  # the least overlap that is one
SLACK = 1 + 1e-5  # of a bound, for what rounding may add


def sparse_iou_cpu(
    slots: Tensor, boxes: Tensor, least: float
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Overlaps above 0 of at least `least`, and each box's largest whatever it is.

    Args:
        slots: [A, 4].
        boxes: [M, 4].
        least: a share, 0..1; at 0 all that overlap are found, in more time.

    Yields:
        overlap, row of the box, row of the slot and whether the box overlaps no slot more, all [h];
        a box's are all in one part, some of less than `least` may be among them.
    """
    least = max(least, TINY)
    spans = _spans(slots)  # [G, S]
    members = _with_area(slots[spans].movedim(2, 1))  # [G, 5, S]
    hulls = _hulls(members)
    for rows in torch.arange(len(boxes)).split(max(1, CACHED // len(spans))):
        mine = _with_area(boxes[rows])  # [m, 5]
        bound = _bound(mine, hulls)  # [m, G]
        most = _iou(mine, members.index_select(0, bound.argmax(1))).amax(1).clamp_(min=TINY)
        pairs = (bound >= most.clamp(max=least)[:, None]).nonzero()
        found = []
        for row, span in (part.unbind(1) for part in pairs.split(CACHED // spans.shape[1] + 1)):
            overlap = _iou(mine.index_select(0, row), members.index_select(0, span))  # [p, S]
            most.scatter_reduce_(0, row, overlap.amax(1), "amax")
            pair, place = (overlap >= most.clamp(max=least)[row, None]).nonzero().unbind(1)
            found.append((overlap[pair, place], row[pair], spans[span[pair], place]))
        overlap, row, slot = (torch.cat(parts) for parts in zip(*found, strict=True))
        yield overlap, rows[row], slot, overlap == most[row]


def _with_area(boxes: Tensor) -> Tensor:
    """Boxes [n, 4, ..] and their area: [n, 5, ..]."""
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)], 1)


def _spans(slots: Tensor) -> Tensor:
    """Rows of slots [G, S], cut in three over and over where they differ most.

    The last repeats, for spans of one length. Two parts make closer spans, in more sorts; at 8732
    slots three cost least in all.
    """
    low, high = slots.split(2, 1)
    # Cut by corners instead, twice as many pairs would be left to compare.
    places = torch.cat([(low + high) / 2, high - low], 1)  # [A, 4]
    levels = max(0, floor(log(len(slots) / SPAN, 3)))
    spare = torch.full((-len(slots) % 3**levels,), len(slots) - 1)
    spans = torch.cat([torch.arange(len(slots)), spare])[None]
    for _ in range(levels):
        inside = places[spans]  # [G, S, 4]
        widest = (inside.amax(1) - inside.amin(1)).argmax(1)  # [G]
        along = inside.gather(2, widest[:, None, None].expand(*spans.shape, 1))[..., 0]
        spans = spans.gather(1, along.argsort(1)).view(3 * len(spans), -1)
    return spans


def _hulls(members: Tensor) -> Tensor:
    """Of each span the hull's corners, the least area, the largest width and height [7, G]."""
    x1, y1, x2, y2, area = members.unbind(1)  # [G, S]
    low = (x.amin(1) for x in (x1, y1))
    high = (x.amax(1) for x in (x2, y2))
    return torch.stack([*low, *high, area.amin(1), (x2 - x1).amax(1), (y2 - y1).amax(1)])


def _bound(boxes: Tensor, hulls: Tensor) -> Tensor:
    a, b, c, d, their_area = boxes.T[..., None]
    x1, y1, x2, y2, area, widest, highest = hulls
    both = torch.minimum(c, x2).sub_(torch.maximum(a, x1)).minimum(widest).clamp_(min=0)
    both.mul_(torch.minimum(d, y2).sub_(torch.maximum(b, y1)).minimum(highest))
    union = torch.maximum(both, area).add_(their_area).sub_(both)
    return both.mul_(SLACK).div_(union)


def _iou(boxes: Tensor, slots: Tensor) -> Tensor:
    """Overlaps [p, S] of boxes [p, 5] and slots [p, 5, S]; below 0 where it should be 0."""
    a, b, c, d, their_area = boxes.T[..., None]
    x1, y1, x2, y2, area = slots.unbind(1)
    both = torch.minimum(c, x2).sub_(torch.maximum(a, x1)).clamp_(min=0)
    both.mul_(torch.minimum(d, y2).sub_(torch.maximum(b, y1)))
    union = (their_area + area).sub_(both)
    return both.div_(union)
