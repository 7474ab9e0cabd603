"""What became of each detection at IoU 0.50 by COCO's rules, from hotcoco's own matches.

Of the objects that a detection reaches it finds the one it overlaps most that no detection of a
higher score has; the 100 highest scores of an image and class count, those on crowds do not.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from hotcoco import COCOeval, mask

from detect.metrics.judge import LEAST
from detect.metrics.reasons import NO_OBJECT, number_in_image, reasons
from engine.record import Matched

CROWD = "crowd or ignored object: left out"


class _Found(NamedTuple):
    """Of all detections, in the order of the file."""

    iou: np.ndarray  # [M] highest with an object of the class in the image
    best: np.ndarray  # [M] row of that object, NO_OBJECT where there is none
    match: np.ndarray  # [M] row of the object that hotcoco matched, NO_OBJECT for none
    left_out: np.ndarray  # [M] text, "" where the detection counts


def explain(
    evaluator: COCOeval, predicted: np.ndarray, true: np.ndarray, names: Sequence[str]
) -> list[Matched]:
    """Return what became of the detections of each class.

    Args:
        evaluator: has matched and accumulated at IoU 0.50 alone.
        predicted: [M, 8] and
        true: [N, 8], as `detect.metrics.judge.judge` had them.
        names: of the classes.
    """
    precision = evaluator.eval["precision"][0, :, :, 0, -1]  # type: ignore[index]  # [R, K]
    recalls = np.array(evaluator.params.rec_thrs)
    found, number = _found(evaluator, predicted, true), number_in_image(true[:, 0])
    objects = np.bincount(true[true[:, 7] == 0, 5].astype(int), minlength=len(names) + 1)
    order = np.lexsort((predicted[:, 0], -predicted[:, 5]))  # stable: then in the file's order
    result = []
    for k, name in enumerate(names, 1):
        rows = order[predicted[order, 6] == k]
        iou, best, match, left_out = (column[rows] for column in found)
        counts = left_out == ""
        right = counts & (match != NO_OBJECT)
        result.append(
            Matched(
                name,
                int(objects[k]),
                predicted[rows, 0].astype(np.int64) - 1,
                predicted[rows, 5],
                iou,
                np.append(number, 0)[np.where(right, match, best)],
                right,
                counts & ~right,
                reasons(iou, best, match, right, left_out.tolist(), number, LEAST),
                f"AP50, {len(recalls)}-point rule",
                float(precision[:, k - 1].mean()) if objects[k] else None,
                recalls,
            )
        )
    return result


def _found(evaluator: COCOeval, predicted: np.ndarray, true: np.ndarray) -> _Found:
    limit = evaluator.params.max_dets[-1]
    iou, match = np.zeros(len(predicted)), np.full(len(predicted), NO_OBJECT)
    best = match.copy()
    left_out = np.full(len(predicted), f"not of the {limit} highest scores of class and image")
    left_out = left_out.astype(object)
    objects = dict(_groups(true[:, [0, 5]]))
    for key, rows in _groups(predicted[:, [0, 6]]):
        if key in objects:
            iou[rows], best[rows] = _best(predicted[rows], true, objects[key])
    for image in filter(None, evaluator.eval_imgs):
        rows = np.array(image["dtIds"], int) - 1
        match[rows] = np.array(image["dtMatches"][0], int) - 1
        left_out[rows] = np.where(image["dtIgnore"][0], CROWD, "")
    crowd = np.flatnonzero((left_out == CROWD) & (match != NO_OBJECT))
    iou[crowd] = [
        mask.iou(predicted[[i], 1:5], true[[j], 1:5], [True])[0, 0]
        for i, j in zip(crowd, match[crowd], strict=True)
    ]
    best[crowd] = match[crowd]
    return _Found(iou, best, match, left_out)


def _groups(keys: np.ndarray) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """The rows of each pair of numbers [M, 2], in order."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    pairs, first = np.unique(keys[order].astype(int), axis=0, return_index=True)
    groups = np.split(order, first[1:]) if len(order) else []
    return zip(map(tuple, pairs.tolist()), groups, strict=True)


def _best(found: np.ndarray, true: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest IoU of detections [M, 8] of one image and class with its objects, and their rows.

    A crowd is the best object only where there is no other.
    """
    counted = rows[true[rows, 7] == 0]
    rows = counted if len(counted) else rows
    overlap = mask.iou(found[:, 1:5], true[rows, 1:5], true[rows, 7] > 0)  # [M, n]
    # of equal ones the last, as in COCO's matching
    best = overlap.shape[1] - 1 - overlap[:, ::-1].argmax(1)
    return overlap[np.arange(len(found)), best], rows[best]
