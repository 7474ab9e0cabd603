"""One result of the objects that the passes of an image found."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms

from engine.record import Meta
from engine.structures import Batch, Objects

Found = tuple[Objects, Meta]  # what a pass found, in pixels of the original image
Merge = Callable[[Sequence[Found]], Objects]  # of the passes of one image

EDGE = 0.02  # of a window's side: a box that comes so near to its edge is cut there
COVERED = 0.7  # of a cut box, by the object that it is a part of
SCORE = 0.5  # of a cut box's, that this object has at least
ROWS = 256  # cut boxes that are compared with all others at once


class SuppressAcross:
    """Merges boxes of all passes: first parts of cut objects are dropped, then NMS goes over all.

    A box is cut where it touches an edge of its window inside the image. It is dropped where a
    larger box of its class from another window covers most of it (`COVERED`) with at least half of
    its score (`SCORE`): the object that it is a part of. So a cut half goes even where it scores
    more than the whole. An object that no pass sees whole stays in its parts.

    Args:
        iou: of two boxes of a class with a larger IoU, the one with the lower score is dropped.
        by_class: False compares boxes of all classes.
        max_detections: of an image, for each of its windows.
    """

    def __init__(self, *, iou: float, max_detections: int, by_class: bool = True) -> None:
        self.iou, self.max_detections, self.by_class = iou, max_detections, by_class

    def __call__(self, passes: Sequence[Found]) -> Objects:
        """The objects of one image, best first; boxes end where their pass saw no further."""
        seen = list(dict.fromkeys(meta.window for _, meta in passes))
        parts = [_clipped(objects, meta) for objects, meta in passes]
        numbers = [seen.index(meta.window) for _, meta in passes]
        found = Objects.cat(parts)  # `batch_index` is the pass
        cut = torch.cat([_is_cut(x.boxes, m) for x, (_, m) in zip(parts, passes, strict=True)])
        window = torch.tensor(numbers)[found.batch_index]
        labels = found.labels if self.by_class else torch.zeros_like(found.labels)
        kept = [labels.new_zeros(0)]
        for label in labels.unique():
            rows = (labels == label).nonzero()[:, 0]
            boxes, scores = found.boxes[rows], found.scores[rows]
            whole = ~_is_part(boxes, scores, window[rows], cut[rows])
            rows = rows[whole]
            kept.append(rows[nms(boxes[whole], scores[whole], self.iou)])
        rows = torch.cat(kept).sort().values
        best = found.scores[rows].argsort(descending=True, stable=True)
        found = found.select(rows[best[: self.max_detections * len(seen)]])
        return replace(found, batch_index=torch.zeros_like(found.batch_index))


def mean_scores(passes: Sequence[Found]) -> Objects:
    """The mean score of each class over the passes of an image, best first.

    A class that a pass does not list counts 0 there; there are as many as the longest list has.
    """
    found, whole = Objects.cat([objects for objects, _ in passes]), passes[0][1].size
    labels, place = found.labels.unique(return_inverse=True)
    total = torch.zeros(len(labels)).index_add(0, place, found.scores)
    best = total.argsort(descending=True, stable=True)[: max(len(x) for x, _ in passes)]
    box = torch.tensor([[0.0, 0.0, whole[1], whole[0]]])
    return Objects(box.repeat(len(best), 1), labels[best], scores=total[best] / len(passes))


def merged(
    batches: Iterable[tuple[Objects, Batch, Any]], merge: Merge, images: int
) -> Iterator[tuple[Objects, Batch, dict[str, Tensor]]]:
    """The objects of whole images, `images` of them in a batch, from those of batches of passes.

    An image of which a pass is missing, since it could not be read, is left out. The batches have
    no pixels, and the `meta` of each image's first pass.
    """
    done: list[Found] = []
    for passes in _complete(batches):
        done.append((merge(passes), passes[0][1]))
        if len(done) == images:
            yield _batch(done)
            done = []
    if done:
        yield _batch(done)


def _complete(batches: Iterable[tuple[Objects, Batch, Any]]) -> Iterator[list[Found]]:
    """The passes of each image as soon as all are there."""
    waiting: dict[int, list[Found]] = {}
    for objects, batch, _ in batches:
        for found in zip(objects.split(len(batch.meta)), batch.meta, strict=True):
            index = found[1].index
            waiting.setdefault(index, []).append(found)
            if len(waiting[index]) == found[1].passes:
                yield waiting[index]
                # passes of a size come in order: of an earlier image none will come
                waiting = {i: passes for i, passes in waiting.items() if i > index}


def _batch(done: Sequence[Found]) -> tuple[Objects, Batch, dict[str, Tensor]]:
    objects = Objects.cat([each for each, _ in done])
    return objects, Batch(torch.zeros(0), Objects.empty(), [meta for _, meta in done]), {}


def _clipped(objects: Objects, meta: Meta) -> Objects:
    """The objects inside what the pass saw; what lies beside it is dropped."""
    if meta.window is None:
        return objects
    low, high = torch.tensor(meta.window, dtype=torch.float32).view(2, 2)
    boxes = objects.boxes.view(-1, 2, 2).maximum(low).minimum(high).view(-1, 4)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return replace(objects, boxes=boxes, area=None).select(inside)  # type: ignore[arg-type]


def _is_cut(boxes: Tensor, meta: Meta) -> Tensor:
    """[M] bool: whether a box [M, 4] touches an edge of its window that is not the image's."""
    height, width = meta.size
    x1, y1, x2, y2 = meta.window or (0, 0, width, height)
    near_x, near_y = EDGE * (x2 - x1), EDGE * (y2 - y1)
    inner = torch.tensor([x1 > 0, y1 > 0, x2 < width, y2 < height])
    low = boxes[:, :2] < torch.tensor([x1 + near_x, y1 + near_y])
    high = boxes[:, 2:] > torch.tensor([x2 - near_x, y2 - near_y])
    return (torch.cat([low, high], 1) & inner).any(1)


def _is_part(boxes: Tensor, scores: Tensor, window: Tensor, cut: Tensor) -> Tensor:
    """[M] bool: whether a cut box [M, 4] is a part of a larger one that another window has."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    part = torch.zeros_like(cut)
    for rows in cut.nonzero()[:, 0].split(ROWS):
        low = boxes[rows, None, :2].maximum(boxes[:, :2])
        high = boxes[rows, None, 2:].minimum(boxes[:, 2:])
        shared = (high - low).clamp(min=0).prod(2)  # [R, M]
        covers = (shared > COVERED * area[rows, None]) & (area > area[rows, None])
        sure = scores >= SCORE * scores[rows, None]
        part[rows] = (covers & sure & (window != window[rows, None])).any(1)
    return part
