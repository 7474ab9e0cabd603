"""Functions of all YOLO heads: assignment by cell, IoU, objectness and scores."""

from dataclasses import replace
from functools import partial
from math import log

import torch
from torch import Tensor
from torchvision.ops import box_iou

from classify.backbones.block import conv_block
from classify.backbones.darknet import LEAKY
from detect.matching import assign_labels, best_object_per_slot, forced_matches, gather_boxes
from engine.structures import BACKGROUND, IGNORE, Assigned, Objects, Output

conv = partial(conv_block, activation=LEAKY)  # (channels, width, kernel), leaky .1


def objectness_bias(prior: float, activation: str) -> float:
    """The bias that makes the initial objectness of every slot `prior`."""
    return prior if activation == "linear" else -log((1 - prior) / prior)


def class_scores(output: Output, activation: str) -> Tensor:
    """Objectness times class score [B, A, K] in 0..1 (arXiv 1506.02640, 2).

    Linear outputs are taken as probabilities, clamped to 0..1. A softmax has no background class
    here: objectness predicts whether a slot is empty.
    """
    if activation == "linear":
        return output.objectness.clamp(0, 1)[..., None] * output.logits.clamp(0, 1)
    logits = output.logits
    classes = logits.softmax(-1) if activation == "softmax" else logits.sigmoid()
    return output.objectness.sigmoid()[..., None] * classes


def elementwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU [..] of boxes [.., 4], elementwise with broadcasting; `box_iou` is of all pairs."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return inter / (areas - inter).clamp(min=1e-6)


def center_in_cell(output: Output, objects: Objects) -> Tensor:
    """Mask [M, A]: the object's centre lies in the slot's cell."""
    centre = (objects.boxes[:, None, :2] + objects.boxes[:, None, 2:]) / 2  # [M, 1, 2]
    middle = (output.slots[:, :2] + output.slots[:, 2:]) / 2  # [A, 2]
    # Slightly more than half a cell, so that rounding leaves no centre between two cells.
    return ((centre - middle).abs() <= output.cells / 2 + 1e-3).all(-1)


def assign_closest(closeness: Tensor, objects: Objects, batch: int) -> tuple[Tensor, Tensor]:
    """Assign each object to its closest slot; of objects with the same slot the last gets it.

    Args:
        closeness: [M, A] of every object and every slot.
        objects: of the batch.
        batch: number of images B.

    Returns:
        the row of each slot's object [B, A], -1 elsewhere; and the same for ignored objects alone.
    """
    ignored = replace(objects, ignore=~objects.ignore)
    return forced_matches(closeness, objects, batch), forced_matches(closeness, ignored, batch)


def assign_best_anchor(output: Output, objects: Objects, ignore: float) -> Assigned:
    """Assign each object to the anchor of the most similar shape in the cell of its centre.

    Of objects with the same cell and anchor the last gets the slot, as in Darknet. A slot without
    an object is IGNORE if its predicted box has an IoU above `ignore` with any object, or if it is
    the best slot of an ignored object. A box has the weight 2 - its fraction of the image. `iou` is
    that of the predicted box with the slot's object, without one the highest with any object.
    """
    batch = len(output.logits)
    matched_gt, ignored_gt = assign_closest(_shape_iou(output, objects), objects, batch)  # [B, A]
    truth, predicted = gather_boxes(objects, matched_gt), output.decoded(output.boxes)  # [B, A, 4]
    pairs = elementwise_iou(predicted[objects.batch_index], objects.boxes[:, None])  # [M, A]
    best_iou, _ = best_object_per_slot(pairs, objects.batch_index, batch)  # [B, A]
    matched = matched_gt >= 0
    labels = assign_labels(matched.float(), matched_gt, objects, positive=0.5, negative=0.5)
    ignored = (best_iou > ignore) | (ignored_gt >= 0)
    labels = torch.where((labels == BACKGROUND) & ignored, IGNORE, labels)
    code = output.coder.encode(truth, output.slots, output.cells)
    assert output.size is not None
    weight = 2 - (truth[..., 2:] - truth[..., :2]).prod(-1) / (output.size[0] * output.size[1])
    iou = torch.where(matched, elementwise_iou(predicted, truth), best_iou)
    return Assigned(labels, code, weight, iou)


def _shape_iou(output: Output, objects: Objects) -> Tensor:
    """IoU [M, A] of box and anchor around one centre; -1 where the box's is in another cell."""
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    shapes = output.slots[:, 2:] - output.slots[:, :2]
    iou = box_iou(torch.cat([-sides, sides], 1), torch.cat([-shapes, shapes], 1))  # [M, A]
    return torch.where(center_in_cell(output, objects), iou, -1.0)
