"""Which slot answers for which object, for a whole batch at once and without a device sync."""

import torch
from torch import Tensor
from torchvision.ops import box_iou

from engine.structures import BACKGROUND, IGNORE, Objects


def owners(overlap: Tensor, image: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """For each slot of each picture its best object.

    Args:
        overlap: [M, A] of every object with every slot.
        image: [M] row of the object's picture.
        batch: number of pictures B.

    Returns:
        the best overlap [B, A] (0 where the picture has no object) and its object's row [B, A],
        -1 where nothing overlaps; of equals the last object wins.
    """
    slots = overlap.shape[1]
    rows = image[:, None].expand(-1, slots)  # [M, A]
    best = overlap.new_zeros(batch, slots).scatter_reduce_(0, rows, overlap, "amax")
    ties = (overlap == best[image]) & (overlap > 0)
    objects = torch.arange(len(image), device=image.device)[:, None]  # [M, 1]
    owner = torch.full((batch, slots), -1, dtype=torch.int64, device=image.device)
    owner.scatter_reduce_(0, rows, torch.where(ties, objects, -1), "amax")
    return best, owner


def match(
    slots: Tensor, objects: Objects, *, batch: int, positive: float, negative: float
) -> tuple[Tensor, Tensor]:
    """SSD's rule (arXiv 1512.02325, 2.2): overlap above `positive`, and each object's best slot.

    Args:
        slots: [A, 4].
        objects: of the batch; slots of `ignore` objects become IGNORE.
        batch: number of pictures B.
        positive: a slot that overlaps an object by at least this answers for it.
        negative: from here up to `positive` a slot is IGNORE, below it BACKGROUND.

    Returns:
        owner [B, A], the row of the slot's object (valid where a label is >= 0), and labels [B, A].
    """
    overlap = box_iou(objects.boxes, slots)  # [M, A]
    best, owner = owners(overlap, objects.image, batch)
    forced = forced_owners(overlap, objects, batch)
    best = torch.where(forced >= 0, 1.0, best)
    owner = torch.where(forced >= 0, forced, owner)
    return owner, labels(best, owner, objects, positive=positive, negative=negative)


def forced_owners(overlap: Tensor, objects: Objects, batch: int) -> Tensor:
    """Each object claims its best slot: the object's row [B, A], -1 elsewhere.

    Of objects that claim the same slot the last wins; `ignore` objects claim none.
    """
    slots = overlap.shape[1]
    rows = torch.arange(len(objects), device=overlap.device)
    claim = objects.image * slots + overlap.argmax(1)  # [M] in the flattened [B, A]
    owner = torch.full((batch * slots,), -1, dtype=torch.int64, device=overlap.device)
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
