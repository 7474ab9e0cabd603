"""Which slot answers for which object, for a whole batch at once.

On a CPU only the pairs that matter are compared (`detect.matching_cpu`). Elsewhere how many they
are could not be known without a device sync, so all are: time grows with objects x slots; memory
with images x slots and a fixed workspace, for they are compared a few groups at a time.
"""

from collections.abc import Iterator
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from detect.matching_cpu import sparse_iou_cpu
from engine.structures import BACKGROUND, IGNORE, Objects

# Pairs compared at a time: on the CPU what stays in its cache, elsewhere enough for a launch.
CACHED, LAUNCHED = 1 << 18, 1 << 22
FAINT = 1e-6  # an overlap below it claims no equals
SPAN = 128  # slots among which an object's best one is looked for


def match(
    slots: Tensor, objects: Objects, *, batch: int, positive: float, negative: float
) -> tuple[Tensor, Tensor]:
    """SSD's rule (arXiv 1512.02325, 2.2): overlap above `positive`, and each object's best slot.

    Args:
        slots: [A, 4].
        objects: of the batch; slots of `ignore` objects become IGNORE.
        batch: number of images B.
        positive: a slot that overlaps an object by at least this answers for it.
        negative: from here up to `positive` a slot is IGNORE, below it BACKGROUND.

    Returns:
        owner [B, A], the row of the slot's object (valid where a label is >= 0), and labels [B, A].
    """
    if slots.device.type == "cpu":
        best, owner, forced = _compare_near(slots, objects, batch, negative)
    else:
        best, owner, forced = compare(slots, objects, batch)
    best = torch.where(forced >= 0, 1.0, best)
    owner = torch.where(forced >= 0, forced, owner)
    return owner, labels(best, owner, objects, positive=positive, negative=negative)


def _compare_near(
    slots: Tensor, objects: Objects, batch: int, least: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As `compare`, but that overlaps below `least` may be left out: on a CPU, most of the time."""
    keys = torch.zeros(batch * len(slots), dtype=torch.int64)
    favourite = torch.full_like(objects.batch_index, len(slots))
    for overlap, row, slot, most in sparse_iou_cpu(slots, objects.boxes, least):
        place = objects.batch_index[row] * len(slots) + slot
        keys.scatter_reduce_(0, place, _keys(overlap, row), "amax")
        favourite.scatter_reduce_(0, row[most], slot[most], "amin")
    favourite = favourite % len(slots)  # an object that overlaps nothing claims the first
    return *_unpack(keys.view(batch, -1)), _claims(favourite, objects, batch, len(slots))


def compare(
    slots: Tensor, objects: Objects, batch: int, *, equals: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """What each slot of each image overlaps most, and whose best slot it is.

    Args:
        slots: [A, 4].
        objects: of the batch; `ignore` objects claim no slot.
        batch: number of images B.
        equals: an object claims all of its best slots, and none if it overlaps none by `FAINT`;
            else it claims the first of them.

    Returns:
        the best overlap, its object's row, -1 where there is none, and the row of the last object
        that claims the slot, -1 where none does: all [B, A].
    """
    rows, image = _groups(objects.batch_index, batch)  # [N, k], [N]
    boxes = torch.cat([objects.boxes, objects.boxes.new_zeros(1, 4)])[rows]  # [N, k, 4]
    # To whole spans; the last slot's copies are never an object's first best.
    padded = torch.cat([slots, slots[-1:].expand(-len(slots) % SPAN, -1)])
    keys = rows.new_zeros(batch, len(padded))
    claims = torch.zeros_like(keys)  # rows from 1 on
    favourite, numbers = torch.empty_like(rows), rows[..., None].float()  # exact below 2 ** 24
    claimer = (numbers + 1) * ~F.pad(objects.ignore, (0, 1), value=True)[rows][..., None]
    for part, overlap, equal in _overlaps(boxes, padded):
        most = overlap.amax(1)  # [n, A]
        torch.eq(overlap, most[:, None], out=equal)  # 1 and 0; bool would take four times as long
        found = _keys(most, equal.mul_(numbers[part]).amax(1).long())
        into = image[part, None].expand_as(found)
        keys.scatter_reduce_(0, into, found, "amax")
        if equals:
            torch.ge(overlap, overlap.amax(2, keepdim=True).clamp_(min=FAINT), out=equal)
            claims.scatter_reduce_(0, into, equal.mul_(claimer[part]).amax(1).long(), "amax")
        else:
            favourite[part] = _first_best(overlap)
    best, owner = _unpack(keys[:, : len(slots)])
    if equals:
        return best, owner, claims[:, : len(slots)] - 1
    found = rows.new_empty(len(objects) + 1).scatter_(0, rows.flatten(), favourite.flatten())
    return best, owner, _claims(found[:-1], objects, batch, len(slots))


def _groups(image: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Objects in groups of one image: their rows [N, k], M where none is, and its image [N].

    How many groups the images need is not known without a sync, only that M / k + B are enough.
    With k about the root of an image's objects, few places stay empty and groups are few.
    """
    number, device = len(image), image.device
    k = max(1, round(sqrt(number / batch)))
    order = image.argsort(stable=True)
    counts = image.new_zeros(batch).scatter_add_(0, image, torch.ones_like(image))  # [B]
    last = ((counts + k - 1) // k).cumsum(0)  # group behind each image's [B]
    first_place = F.pad(last, (1, -1)) * k - F.pad(counts.cumsum(0), (1, -1))  # less objects before
    place = first_place[image[order]] + torch.arange(number, device=device)  # [M]
    groups = number // k + batch
    rows = image.new_full((groups * k,), number).scatter_(0, place, order)
    of_group = torch.searchsorted(last, torch.arange(groups, device=device), right=True)
    return rows.view(groups, k), of_group.clamp(max=batch - 1)


def _overlaps(boxes: Tensor, slots: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """What `box_iou` says of boxes [N, k, 4] and slots [A, 4], some groups at a time.

    Yields:
        which groups, their overlaps [n, k, A], below 0 where it should be 0, and float workspace
        of that shape; both are overwritten by the next.
    """
    ours = slots.T.contiguous()  # [4, A]
    theirs = boxes.movedim(2, 0)[..., None]  # [4, N, k, 1]
    our_area, their_area = ((x[2] - x[0]) * (x[3] - x[1]) for x in (ours, theirs))
    pairs = CACHED if slots.device.type == "cpu" else LAUNCHED
    step = max(1, pairs // (boxes.shape[1] * len(slots)))
    buffers = slots.new_empty(3, min(step, len(boxes)), boxes.shape[1], len(slots))
    for start in range(0, len(boxes), step):
        part = slice(start, min(start + step, len(boxes)))
        b, (one, two, three) = theirs[:, part], buffers[:, : part.stop - start]
        torch.minimum(b[2], ours[2], out=one).sub_(torch.maximum(b[0], ours[0], out=two))
        torch.minimum(b[3], ours[3], out=two).sub_(torch.maximum(b[1], ours[1], out=three))
        both = one.clamp_(min=0).mul_(two)
        union = torch.add(their_area[part], our_area, out=two).sub_(both)
        yield part, both.div_(union), three


def _keys(overlap: Tensor, rows: Tensor) -> Tensor:
    """Overlap and row in one number: the largest has the best overlap, of equals the last row.

    The bits of floats >= 0, read as whole numbers, have their order; those of others are below 0.
    """
    return overlap.view(torch.int32).long().bitwise_left_shift_(32).add_(rows)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The overlaps in keys >= 0, and their rows, -1 where nothing overlaps."""
    overlap = (keys >> 32).int().view(torch.float32)
    return overlap, torch.where(overlap > 0, keys & 0xFFFFFFFF, -1)


def _first_best(overlap: Tensor) -> Tensor:
    """`argmax` over the last dimension, a multiple of SPAN, in a third of its time."""
    spans = overlap.unflatten(-1, (-1, SPAN))  # [n, k, A / SPAN, SPAN]
    best = spans.amax(-1).clamp_(min=0).argmax(-1)  # [n, k]
    n, k = (torch.arange(size, device=best.device) for size in best.shape)
    inside = spans[n[:, None], k, best].clamp_(min=0).argmax(-1)  # [n, k]
    return best * SPAN + inside


def owners(overlap: Tensor, image: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """For each slot of each image its best object.

    Args:
        overlap: [M, A] of every object with every slot.
        image: [M] row of the object's image.
        batch: number of images B.

    Returns:
        the best overlap [B, A] (0 where the image has no object) and its object's row [B, A],
        -1 where nothing overlaps; of equals the last object wins.
    """
    rows = torch.arange(len(image), device=image.device)[:, None]  # [M, 1]
    keys = _keys(overlap, rows)
    best = keys.new_zeros(batch, overlap.shape[1])
    best.scatter_reduce_(0, image[:, None].expand_as(keys), keys, "amax")
    return _unpack(best)


def forced_owners(overlap: Tensor, objects: Objects, batch: int) -> Tensor:
    """Each object claims its best slot: the object's row [B, A], -1 elsewhere.

    Of objects that claim the same slot the last wins; `ignore` objects claim none.
    """
    return _claims(overlap.argmax(1), objects, batch, overlap.shape[1])


def _claims(favourite: Tensor, objects: Objects, batch: int, slots: int) -> Tensor:
    """`forced_owners` from each object's best slot [M]."""
    rows = torch.arange(len(objects), device=favourite.device)
    claim = objects.batch_index * slots + favourite  # [M] in the flattened [B, A]
    owner = torch.full((batch * slots,), -1, dtype=torch.int64, device=favourite.device)
    owner.scatter_reduce_(0, claim, torch.where(objects.ignore, -1, rows), "amax")
    return owner.view(batch, slots)


def labels(
    best: Tensor, owner: Tensor, objects: Objects, *, positive: float, negative: float
) -> Tensor:
    """Labels [B, A] from each slot's best overlap [B, A] and its object's row [B, A]."""
    classes = torch.where(objects.ignore, IGNORE, objects.labels)  # [M]
    classes = torch.cat([classes, classes.new_full((1,), BACKGROUND)])  # row -1: no object
    found = classes[owner]
    found = torch.where(best < positive, IGNORE, found)
    return torch.where(best < negative, BACKGROUND, found)


def gather_boxes(objects: Objects, owner: Tensor) -> Tensor:
    """The box [B, A, 4] of each slot's object; where it has none, a box of one pixel."""
    stub = objects.boxes.new_tensor([[0.0, 0.0, 1.0, 1.0]])
    return torch.cat([objects.boxes, stub])[owner]


def box_loss_rows(labels: Tensor) -> Tensor:
    """The slots whose boxes are worth computing: rows [P] of the flattened labels [B, A].

    The positive ones on a CPU; elsewhere all, for to learn how many they are is a device sync.
    """
    if labels.device.type != "cpu":
        return torch.arange(labels.numel(), device=labels.device)
    return (labels >= 0).flatten().nonzero()[:, 0]
