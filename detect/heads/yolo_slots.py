"""What the YOLO heads share: whose slot is where, overlaps, objectness and scores."""

from dataclasses import replace
from functools import partial
from math import log

import torch
from torch import Tensor
from torchvision.ops import box_iou

from classify.backbones.block import conv_block
from classify.backbones.darknet import LEAKY
from detect.matching import forced_owners, gather_boxes, labels, owners
from engine.structures import BACKGROUND, IGNORE, Assigned, Objects, Output

conv = partial(conv_block, activation=LEAKY)  # (channels, width, kernel), leaky .1


def objectness_bias(prior: float, activation: str) -> float:
    """The bias by which every slot's objectness starts at `prior`."""
    return prior if activation == "linear" else -log((1 - prior) / prior)


def scores(output: Output, activation: str) -> Tensor:
    """Objectness times class score [B, A, K] in 0..1 (arXiv 1506.02640, 2).

    Linear outputs are the shares themselves, cut to 0..1. A softmax needs no background here: that
    a slot is empty is for its objectness to say.
    """
    if activation == "linear":
        return output.objectness.clamp(0, 1)[..., None] * output.logits.clamp(0, 1)
    logits = output.logits
    classes = logits.softmax(-1) if activation == "softmax" else logits.sigmoid()
    return output.objectness.sigmoid()[..., None] * classes


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """IoU [..] of boxes [.., 4] one by one, broadcast; `box_iou` would compare all with all."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return both / (areas - both).clamp(min=1e-6)


def center_in_cell(output: Output, objects: Objects) -> Tensor:
    """Mask [M, A]: the slot's cell holds the object's centre."""
    centre = (objects.boxes[:, None, :2] + objects.boxes[:, None, 2:]) / 2  # [M, 1, 2]
    middle = (output.slots[:, :2] + output.slots[:, 2:]) / 2  # [A, 2]
    # A little over half a cell: no centre may fall between two cells by rounding.
    return ((centre - middle).abs() <= output.cells / 2 + 1e-3).all(-1)


def assign_closest(closeness: Tensor, objects: Objects, batch: int) -> tuple[Tensor, Tensor]:
    """Each object takes its closest slot, of several the last: its row [B, A], -1 elsewhere.

    Returns:
        the owners that count, and those that are ignored.
    """
    ignored = replace(objects, ignore=~objects.ignore)
    return forced_owners(closeness, objects, batch), forced_owners(closeness, ignored, batch)


def assign(output: Output, objects: Objects, ignore: float) -> Assigned:
    """Each object to the anchor of the nearest shape in the cell that holds its centre.

    Of objects in one cell and of one anchor the last keeps the slot, as in Darknet. No negative is
    a slot whose predicted box overlaps an object by more than `ignore`, or which would be an
    ignored object's. Boxes weigh 2 - their share of the image; `iou` of a slot with an object is
    with that one.
    """
    batch = len(output.logits)
    owner, ignored = assign_closest(_closeness(output, objects), objects, batch)  # [B, A]
    truth, predicted = gather_boxes(objects, owner), output.decoded(output.boxes)  # [B, A, 4]
    best, _ = owners(
        overlap(predicted[objects.batch_index], objects.boxes[:, None]), objects.batch_index, batch
    )  # [B, A]
    found = labels((owner >= 0).float(), owner, objects, positive=0.5, negative=0.5)
    spared = (best > ignore) | (ignored >= 0)
    found = torch.where((found == BACKGROUND) & spared, IGNORE, found)
    code = output.coder.encode(truth, output.slots, output.cells)
    assert output.size is not None
    weight = 2 - (truth[..., 2:] - truth[..., :2]).prod(-1) / (output.size[0] * output.size[1])
    return Assigned(found, code, weight, torch.where(owner >= 0, overlap(predicted, truth), best))


def _closeness(output: Output, objects: Objects) -> Tensor:
    """Overlap [M, A] of shapes on one centre; -1 where the cell does not hold the object's."""
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    shapes = output.slots[:, 2:] - output.slots[:, :2]
    alike = box_iou(torch.cat([-sides, sides], 1), torch.cat([-shapes, shapes], 1))  # [M, A]
    return torch.where(center_in_cell(output, objects), alike, -1.0)
