"""Assignment of objects (ground truth) to slots by IoU, for a whole batch at once.

On a CPU only the pairs that matter are compared (`detect.matching_cpu`). Elsewhere their number
could not be known without a device sync, so all pairs are compared: time grows with objects x
slots, memory with images x slots and a fixed workspace, as a few groups are compared at a time.
"""

from collections.abc import Iterator
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from detect.matching_cpu import sparse_iou_cpu
from engine.structures import BACKGROUND, IGNORE, Objects

# Pairs compared at a time: on the CPU what fits its cache, elsewhere enough for a kernel launch.
CACHED, LAUNCHED = 1 << 18, 1 << 22
MIN_TIE_IOU = 1e-6  # with `ties`, an object whose best IoU is lower forces no slot
SPAN = 128  # slots per block in the search for an object's best slot


def match(
    slots: Tensor, objects: Objects, *, batch: int, positive: float, negative: float
) -> tuple[Tensor, Tensor]:
    """SSD's matching (arXiv 1512.02325, 2.2): by IoU, and each object gets its best slot.

    Args:
        slots: [A, 4].
        objects: of the batch; slots matched to `ignore` objects become IGNORE.
        batch: number of images B.
        positive: IoU from which a slot is assigned to its best object.
        negative: a slot with a best IoU from here up to `positive` is IGNORE, below it BACKGROUND.

    Returns:
        matched_gt [B, A], the row of the slot's object (valid where its label is >= 0), and
        labels [B, A].
    """
    if slots.device.type == "cpu":
        best_iou, matched_gt, forced_gt = _best_matches_cpu(slots, objects, batch, negative)
    else:
        best_iou, matched_gt, forced_gt = best_matches(slots, objects, batch)
    best_iou = torch.where(forced_gt >= 0, 1.0, best_iou)
    matched_gt = torch.where(forced_gt >= 0, forced_gt, matched_gt)
    labels = assign_labels(best_iou, matched_gt, objects, positive=positive, negative=negative)
    return matched_gt, labels


def _best_matches_cpu(
    slots: Tensor, objects: Objects, batch: int, least: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`best_matches`, but an IoU below `least` may be left out: on a CPU that saves most time."""
    keys = torch.zeros(batch * len(slots), dtype=torch.int64)
    best_slot = torch.full_like(objects.batch_index, len(slots))
    for iou, row, slot, is_best in sparse_iou_cpu(slots, objects.boxes, least):
        index = objects.batch_index[row] * len(slots) + slot
        keys.scatter_reduce_(0, index, _keys(iou, row), "amax")
        best_slot.scatter_reduce_(0, row[is_best], slot[is_best], "amin")
    best_slot = best_slot % len(slots)  # an object that overlaps no slot forces the first
    return *_unpack(keys.view(batch, -1)), _force(best_slot, objects, batch, len(slots))


def best_matches(
    slots: Tensor, objects: Objects, batch: int, *, ties: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Each slot's best object, and each object's best slot ("low-quality matches" in torchvision).

    Args:
        slots: [A, 4].
        objects: of the batch; `ignore` objects force no slot.
        batch: number of images B.
        ties: an object forces all slots of equal best IoU, or none if that is below `MIN_TIE_IOU`;
            else only the first of them.

    Returns:
        best_iou; matched_gt, the row of its object, -1 where nothing overlaps; and forced_gt, the
        row of the object whose best slot it is (of several the last), -1 elsewhere: all [B, A].
    """
    rows, image = _groups(objects.batch_index, batch)  # [N, k], [N]
    boxes = torch.cat([objects.boxes, objects.boxes.new_zeros(1, 4)])[rows]  # [N, k, 4]
    # Padded to whole spans; a copy of the last slot is never the first of the best.
    padded = torch.cat([slots, slots[-1:].expand(-len(slots) % SPAN, -1)])
    keys = rows.new_zeros(batch, len(padded))
    forced = torch.zeros_like(keys)  # row + 1, 0 for none
    best_slot, numbers = torch.empty_like(rows), rows[..., None].float()  # exact below 2 ** 24
    row_plus_1 = (numbers + 1) * ~F.pad(objects.ignore, (0, 1), value=True)[rows][..., None]
    for part, iou, equal in _pairwise_iou(boxes, padded):
        best = iou.amax(1)  # [n, A]
        torch.eq(iou, best[:, None], out=equal)  # 1 and 0; bool would take four times as long
        new = _keys(best, equal.mul_(numbers[part]).amax(1).long())
        index = image[part, None].expand_as(new)
        keys.scatter_reduce_(0, index, new, "amax")
        if ties:
            torch.ge(iou, iou.amax(2, keepdim=True).clamp_(min=MIN_TIE_IOU), out=equal)
            forced.scatter_reduce_(0, index, equal.mul_(row_plus_1[part]).amax(1).long(), "amax")
        else:
            best_slot[part] = _first_argmax(iou)
    best_iou, matched_gt = _unpack(keys[:, : len(slots)])
    if ties:
        return best_iou, matched_gt, forced[:, : len(slots)] - 1
    by_row = rows.new_empty(len(objects) + 1).scatter_(0, rows.flatten(), best_slot.flatten())
    return best_iou, matched_gt, _force(by_row[:-1], objects, batch, len(slots))


def _groups(image: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Groups of k objects of one image: their rows [N, k], padded with M, and their image [N].

    The number of groups needed is not known without a sync, but M / k + B are always enough. With
    k near the root of the mean number of objects, both padding and number of groups are small.
    """
    number, device = len(image), image.device
    k = max(1, round(sqrt(number / batch)))
    order = image.argsort(stable=True)
    counts = image.new_zeros(batch).scatter_add_(0, image, torch.ones_like(image))  # [B]
    end = ((counts + k - 1) // k).cumsum(0)  # [B], one past each image's last group
    shift = F.pad(end, (1, -1)) * k - F.pad(counts.cumsum(0), (1, -1))  # padding before the image
    index = shift[image[order]] + torch.arange(number, device=device)  # [M]
    groups = number // k + batch
    rows = image.new_full((groups * k,), number).scatter_(0, index, order)
    group_image = torch.searchsorted(end, torch.arange(groups, device=device), right=True)
    return rows.view(groups, k), group_image.clamp(max=batch - 1)


def _pairwise_iou(boxes: Tensor, slots: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """`box_iou` of boxes [N, k, 4] and slots [A, 4], some groups at a time.

    Yields:
        which groups; their IoU [n, k, A], which may be below 0 instead of 0; and a float workspace
        of that shape. Both are overwritten in the next step.
    """
    s = slots.T.contiguous()  # [4, A]
    corners = boxes.movedim(2, 0)[..., None]  # [4, N, k, 1]
    slot_area, box_area = ((x[2] - x[0]) * (x[3] - x[1]) for x in (s, corners))
    pairs = CACHED if slots.device.type == "cpu" else LAUNCHED
    step = max(1, pairs // (boxes.shape[1] * len(slots)))
    buffers = slots.new_empty(3, min(step, len(boxes)), boxes.shape[1], len(slots))
    for start in range(0, len(boxes), step):
        part = slice(start, min(start + step, len(boxes)))
        b, (x, y, work) = corners[:, part], buffers[:, : part.stop - start]
        torch.minimum(b[2], s[2], out=x).sub_(torch.maximum(b[0], s[0], out=y))  # width
        torch.minimum(b[3], s[3], out=y).sub_(torch.maximum(b[1], s[1], out=work))  # height
        inter = x.clamp_(min=0).mul_(y)
        union = torch.add(box_area[part], slot_area, out=y).sub_(inter)
        yield part, inter.div_(union), work


def _keys(iou: Tensor, rows: Tensor) -> Tensor:
    """IoU and row in one integer, whose maximum has the best IoU and, of equal ones, the last row.

    Bits of floats >= 0, read as integers, sort like the floats; those of floats < 0 are below 0.
    """
    return iou.view(torch.int32).long().bitwise_left_shift_(32).add_(rows)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and row of keys >= 0; the row is -1 where nothing overlaps."""
    iou = (keys >> 32).int().view(torch.float32)
    return iou, torch.where(iou > 0, keys & 0xFFFFFFFF, -1)


def _first_argmax(iou: Tensor) -> Tensor:
    """`argmax` over the last dimension, a multiple of SPAN, in a third of the time of torch's."""
    spans = iou.unflatten(-1, (-1, SPAN))  # [n, k, A / SPAN, SPAN]
    best = spans.amax(-1).clamp_(min=0).argmax(-1)  # [n, k]
    n, k = (torch.arange(size, device=best.device) for size in best.shape)
    inside = spans[n[:, None], k, best].clamp_(min=0).argmax(-1)  # [n, k]
    return best * SPAN + inside


def best_object_per_slot(iou: Tensor, image: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """The best object of each slot of each image.

    Args:
        iou: [M, A] of every object and every slot.
        image: [M], the image of each object.
        batch: number of images B.

    Returns:
        best IoU [B, A] (0 where the image has no object), and the row of its object [B, A], -1
        where nothing overlaps; of objects with the same IoU the last.
    """
    rows = torch.arange(len(image), device=image.device)[:, None]  # [M, 1]
    keys = _keys(iou, rows)
    best = keys.new_zeros(batch, iou.shape[1])
    best.scatter_reduce_(0, image[:, None].expand_as(keys), keys, "amax")
    return _unpack(best)


def forced_matches(iou: Tensor, objects: Objects, batch: int) -> Tensor:
    """forced_gt [B, A]: the row of the object whose best slot by IoU [M, A] it is, -1 elsewhere.

    Of objects with the same best slot the last gets it; `ignore` objects get none.
    """
    return _force(iou.argmax(1), objects, batch, iou.shape[1])


def _force(best_slot: Tensor, objects: Objects, batch: int, slots: int) -> Tensor:
    """`forced_matches` from each object's best slot [M]."""
    rows = torch.arange(len(objects), device=best_slot.device)
    index = objects.batch_index * slots + best_slot  # [M] in the flattened [B, A]
    forced_gt = torch.full((batch * slots,), -1, dtype=torch.int64, device=best_slot.device)
    forced_gt.scatter_reduce_(0, index, torch.where(objects.ignore, -1, rows), "amax")
    return forced_gt.view(batch, slots)


def assign_labels(
    best_iou: Tensor, matched_gt: Tensor, objects: Objects, *, positive: float, negative: float
) -> Tensor:
    """Labels [B, A] from each slot's best IoU [B, A] and the row of its object [B, A].

    The object's class from `positive` on, BACKGROUND below `negative`, IGNORE between the two and
    where the object is ignored.
    """
    classes = torch.where(objects.ignore, IGNORE, objects.labels)  # [M]
    classes = torch.cat([classes, classes.new_full((1,), BACKGROUND)])  # row -1: no object
    labels = classes[matched_gt]
    labels = torch.where(best_iou < positive, IGNORE, labels)
    return torch.where(best_iou < negative, BACKGROUND, labels)


def gather_boxes(objects: Objects, matched_gt: Tensor) -> Tensor:
    """The box [B, A, 4] of each slot's object; a box of one pixel where it has none (row -1)."""
    stub = objects.boxes.new_ones(1, 4)  # a list would be copied to the device in every step
    stub[:, :2] = 0
    return torch.cat([objects.boxes, stub])[matched_gt]


def box_loss_rows(labels: Tensor) -> Tensor:
    """The slots that the box loss is computed for: rows [P] of the flattened labels [B, A].

    On a CPU the positive ones; elsewhere all, since their number is not known without a sync.
    """
    if labels.device.type != "cpu":
        return torch.arange(labels.numel(), device=labels.device)
    return (labels >= 0).flatten().nonzero()[:, 0]
