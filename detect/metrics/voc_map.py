"""Mean average precision by the rules of PASCAL VOC.

The matching of the VOC development kit's VOCevaldet.m (Everingham et al., IJCV 2010, section 4.2):
a detection is matched to the object of its image and class that it overlaps most. It is a true
positive if that IoU reaches the threshold and no detection of higher score has the same object.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from classify.metrics.average_precision import RULES, average_precision, check_rule
from detect.diagnosis.diagnose import diagnose, differences
from detect.metrics.names import distinct
from engine.config.ranges import PositiveShare
from engine.errors import UserError
from engine.protocols import OutputFields, Ranked
from engine.record import ObjectTable
from engine.report.diagnosis import Diagnosis, Difference
from engine.structures import Meta, Objects, refuse_nan


class Matches(NamedTuple):
    """The match of each detection, which does not depend on other detections."""

    label: np.ndarray  # [M] int64
    score: np.ndarray  # [M] float32
    truth: np.ndarray  # [M] int64, number of the object that it matches, -1 for none
    ignore: np.ndarray  # [M] bool, whether that object is difficult


class VOCMap:
    """VOC's mAP. Difficult objects do not count; a detection of one is left out, not penalised.

    With `inclusive`, a box's corners are its first and last pixels, as in VOC's files: sides are
    x2 - x1 + 1. A class without an object that counts has no AP and is left out of the mean.
    Of equal scores the detection of the earlier image comes first, then the one found first.
    """

    primary = "mAP"
    requires: ClassVar[OutputFields] = frozenset({"logits", "boxes"})

    def __init__(
        self,
        *,
        classes: list[str],
        iou: PositiveShare = 0.5,
        rule: str = "all_point",
        inclusive: bool = True,
    ) -> None:
        check_rule(rule)
        if not 0 < iou <= 1:
            raise UserError(f"iou: got {iou}, expected an overlap above 0 and at most 1")
        self.classes, self.iou = distinct(classes), iou
        self.rule, self.inclusive = rule, inclusive
        self.reset()

    @property
    def protocol(self) -> str:
        """The rules of evaluation in one line."""
        iou = max(f"{self.iou:.2f}", str(self.iou), key=len)
        pixels = "inclusive pixels (+1)" if self.inclusive else "continuous coordinates"
        return f"VOC AP, IoU {iou}, {RULES[self.rule]}, {pixels}"

    def reset(self) -> None:
        """Discard all images."""
        self.matches: list[Matches] = []
        self.num_seen = 0  # objects, difficult ones too
        self.num_true = np.zeros(len(self.classes), np.int64)  # [K] objects that count

    def update(self, predicted: Objects, true: Objects, meta: Sequence[Meta]) -> None:
        """Add a batch; boxes in pixels of the original images."""
        refuse_nan(predicted, meta)
        refuse_nan(true, meta)
        overlap, best = self._best(predicted, true)
        hit = overlap >= self.iou
        difficult = np.append(true.ignore.numpy(), False)[best]  # row -1: no object
        self.matches.append(
            Matches(
                predicted.labels.numpy(),
                predicted.scores.numpy(),
                np.where(hit, self.num_seen + best, -1),
                hit & difficult,
            )
        )
        self.num_seen += len(true)
        counted = true.labels[~true.ignore].numpy()
        self.num_true += np.bincount(counted, minlength=len(self.classes))

    def compute(self) -> dict[str, float]:
        """`mAP`, `recall` (mean of the final recalls), and `AP/NAME` of each class with objects."""
        label, _, right, wrong = self._positives()
        numbers = {
            k: self._average(right[label == k], wrong[label == k], self.num_true[k])
            for k in np.flatnonzero(self.num_true)
        }
        ap, recall = np.array([*numbers.values()]).reshape(-1, 2).sum(0) / max(len(numbers), 1)
        each = {f"AP/{self.classes[k]}": number for k, (number, _) in numbers.items()}
        return {"mAP": float(ap), "recall": float(recall), **each}

    def ranked(self) -> dict[str, Ranked]:
        """Detections of each class with objects; those of difficult objects left out."""
        label, score, right, wrong = self._positives()
        counts = right | wrong
        masks = {k: counts & (label == k) for k in np.flatnonzero(self.num_true)}
        return {
            self.classes[k]: Ranked(score[m], right[m], int(self.num_true[k]))
            for k, m in masks.items()
        }

    def diagnose(
        self, predicted: ObjectTable, true: ObjectTable, images: int, numbers: dict[str, float]
    ) -> Diagnosis:
        """What is right and wrong, by hotcoco at IoU 0.50; the numbers are this metric's."""
        return diagnose(self.classes, predicted, true, images, numbers)

    def differences(
        self, first: ObjectTable, second: ObjectTable, true: ObjectTable, images: int
    ) -> list[Difference]:
        """How much two runs differ, by hotcoco."""
        return differences(self.classes, first, second, true, images)

    def _best(self, predicted: Objects, true: Objects) -> tuple[np.ndarray, np.ndarray]:
        """Each detection's highest IoU with an object of its image and class, and its row."""
        detection, truth = _pairs(self._key(predicted), self._key(true))  # [P], [P]
        overlap = self._iou(
            predicted.boxes.double().numpy()[detection], true.boxes.double().numpy()[truth]
        )
        order = np.lexsort((-overlap, detection))  # stable: of equal IoUs, the first object
        detection, first = np.unique(detection[order], return_index=True)
        most, best = np.zeros(len(predicted)), np.full(len(predicted), -1)
        most[detection], best[detection] = overlap[order][first], truth[order][first]
        return most, best

    def _key(self, objects: Objects) -> np.ndarray:
        """A number [M] for each pair of image and class."""
        return (objects.batch_index * len(self.classes) + objects.labels).numpy()

    def _iou(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """IoU [P] of boxes a[i] and b[i], [P, 4] each."""
        low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
        inter = (high - low + self.inclusive).clip(0).prod(1)
        areas = [(x[:, 2:] - x[:, :2] + self.inclusive).prod(1) for x in (a, b)]
        return np.divide(inter, areas[0] + areas[1] - inter, np.zeros(len(a)), where=inter > 0)

    def _positives(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Label, score, true positive and false positive of each detection, highest score first.

        On a difficult object a detection is neither.
        """
        empty = Matches(*(np.zeros(0, t) for t in (np.int64, np.float32, np.int64, bool)))
        every = Matches(*map(np.concatenate, zip(empty, *self.matches, strict=True)))
        order = np.argsort(-every.score, kind="stable")
        label, score, truth, ignore = (column[order] for column in every)
        first = np.zeros(len(order), bool)
        first[np.unique(truth, return_index=True)[1]] = True
        right = first & (truth >= 0) & ~ignore
        return label, score, right, ~right & ~ignore

    def _average(self, right: np.ndarray, wrong: np.ndarray, total: int) -> tuple[float, float]:
        """Average precision and final recall of one class."""
        tp, fp = right.cumsum(), wrong.cumsum()
        precision = tp / (tp + fp).clip(1)
        ap = average_precision(precision, right, total, self.rule)
        return ap, float(right.sum() / total)


def _pairs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) of all pairs with a[i] == b[j], sorted by i, then j; not by comparing all."""
    order = np.argsort(b, kind="stable")
    start = np.searchsorted(b[order], a)
    count = np.searchsorted(b[order], a, "right") - start
    i = np.repeat(np.arange(len(a)), count)
    within = np.arange(len(i)) - np.repeat(count.cumsum() - count, count)
    return i, order[start[i] + within]
