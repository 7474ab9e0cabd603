"""Detections matched with the objects of a split."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hotcoco import COCOeval

from detect.metrics.judge import judge, match_at_half
from engine.record import ObjectTable
from engine.report.diagnosis import THRESHOLDS, Live, best_threshold, counts_at

SUSPECT = 0.5  # least score of a detection that contradicts the annotation


class Matched:
    """Detections and objects, matched by hotcoco.

    Args:
        classes: K names.
        predicted: of all images.
        true: of all images.
        images: their number.
    """

    def __init__(
        self, classes: Sequence[str], predicted: ObjectTable, true: ObjectTable, images: int
    ) -> None:
        self.classes, self.images = list(classes), images
        # A file may have scores in percent: then the thresholds go as far.
        self.thresholds = THRESHOLDS * max(1.0, float(predicted.scores.max(initial=0)))
        self.predicted, self.true = predicted, true
        self.evaluator = evaluator(classes, predicted, true, images, true.area, predicted.area)
        self.evaluator.evaluate()
        self.evaluator.accumulate()
        self.precision: Any = self.evaluator.eval["precision"]  # type: ignore[index]
        found = self.evaluator.image_diagnostics(iou_thr=0.5, score_thr=SUSPECT)
        self.status = _status(found["dt_status"], len(predicted.image))  # [M] 1 right, 0, -1: none
        self.object = np.full(len(predicted.image), -1)  # [M] row of the object that it finds
        for detection, number in found["dt_match"].items():
            self.object[detection - 1] = number - 1
        self.label_errors: list[dict[str, Any]] = found["label_errors"]
        self.live = self._live()

    def confusion_at_best(self) -> list[tuple[int, int, int]]:
        """Return the confusion at the best score: row, column, count; K stands for none."""
        return self.live.confusion[int(np.searchsorted(self.thresholds, self.live.best))]

    def missed_at_best(self) -> np.ndarray:
        """Return [N] bool: the objects without a right detection of the best score."""
        found = self.object[(self.predicted.scores >= self.live.best) & (self.status == 1)]
        missed = ~self.true.ignore
        missed[found] = False
        return missed

    def _live(self) -> Live:
        scores, labels = self.predicted.scores.clip(0), self.predicted.labels
        right, wrong = (
            counts_at(self.thresholds, scores[mask], labels[mask], len(self.classes))
            for mask in (self.status == 1, self.status == 0)
        )
        total = np.bincount(self.true.labels[~self.true.ignore], minlength=len(self.classes))
        cells = self._confusions(np.searchsorted(self.thresholds, scores, "right") - 1)
        best = best_threshold(self.thresholds, right, wrong, total)
        names = list(self.classes)
        return Live(self.thresholds.tolist(), names, right, wrong, total, cells,
                    [*names, "invented"], [*names, "missed"], best)  # fmt: skip

    def _confusions(self, level: np.ndarray) -> list[list[tuple[int, int, int]]]:
        """Of each threshold the row, column and count of its confusion's cells.

        Matching goes from the highest score down, so that what a detection finds does not depend on
        those below it: one matching, of all classes together, holds for every threshold.

        Args:
            level: [M] the highest threshold that each detection reaches.
        """
        none = len(self.classes)
        found, counts = _matched_of_any_class(self.predicted, self.true, self.images)
        rows = np.append(self.true.labels, none)[found]  # found -1: no object
        cells, which = np.unique(
            (rows * (none + 1) + self.predicted.labels)[counts], return_inverse=True
        )
        at = counts_at(np.arange(len(self.thresholds)), level[counts], which, len(cells))  # [T, C]
        total = np.bincount(self.true.labels[~self.true.ignore], minlength=none)
        right = [np.bincount(cells // (none + 1), of, none + 1)[:none] for of in at]
        missed = total - np.array(right).astype(int)  # [T, K]
        return [
            [(*divmod(int(cell), none + 1), int(n)) for cell, n in zip(cells, of, strict=True) if n]
            + [(k, none, int(n)) for k, n in enumerate(lost) if n]
            for of, lost in zip(at, missed, strict=True)
        ]


def _matched_of_any_class(
    predicted: ObjectTable, true: ObjectTable, images: int
) -> tuple[np.ndarray, np.ndarray]:
    """[M] the object that each detection overlaps by half, -1 for none; and whether it counts.

    A detection on an ignored object does not, nor one behind the first 100 of its image.
    """
    one, other = (t._replace(labels=np.zeros_like(t.labels)) for t in (predicted, true))
    judge = evaluator(["object"], one, other, images, true.area, predicted.area)
    judge.params.max_dets = judge.params.max_dets[-1:]
    match_at_half(judge)
    found, counts = np.full(len(predicted.image), -1), np.zeros(len(predicted.image), bool)
    for image in filter(None, judge.eval_imgs):
        rows = np.array(image["dtIds"], np.int64) - 1
        found[rows] = np.array(image["dtMatches"][0], np.int64) - 1
        counts[rows] = ~np.array(image["dtIgnore"][0], bool)
    return found, counts


def _status(words: dict[int, str], count: int) -> np.ndarray:
    """[M]: 1 for a right detection, 0 for a wrong one, -1 for one that does not count."""
    status = np.full(count, -1)
    status[np.fromiter(words, np.int64, len(words)) - 1] = [w == "tp" for w in words.values()]
    return status


def evaluator(
    classes: Sequence[str],
    predicted: ObjectTable,
    true: ObjectTable,
    images: int,
    true_area: np.ndarray,
    area: np.ndarray,
) -> COCOeval:
    """Return hotcoco's evaluator, which divides objects and detections by these areas."""
    rows = np.column_stack(
        [predicted.image + 1, predicted.boxes, predicted.scores, predicted.labels + 1, area]
    )
    truth = np.column_stack([true.image + 1, true.boxes, true.labels + 1, true_area, true.ignore])
    return judge(rows, truth, classes, images)
