"""Mean average precision by the rules of PASCAL VOC.

The matching of the VOC development kit's VOCevaldet.m (Everingham et al., IJCV 2010, section 4.2):
a detection is matched to the object of its image and class that it overlaps most. It is a true
positive if that IoU reaches the threshold and no detection of higher score has the same object.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from classify.diagnosis.one_class import one_class
from classify.metrics.average_precision import RECALLS, RULES, average_precision, check_rule
from detect.diagnosis.diagnose import diagnose, differences
from detect.metrics.names import distinct
from detect.metrics.reasons import NO_OBJECT, number_in_image, reasons, shown
from engine.config.ranges import PositiveShare
from engine.errors import UserError
from engine.finding import Finding
from engine.protocols import OutputFields
from engine.record import Matched, Meta, ObjectTable, Ranked
from engine.report.diagnosis import Diagnosis, Difference

if TYPE_CHECKING:
    from engine.objects import Objects


class Matches(NamedTuple):
    """The match of each detection, which does not depend on other detections."""

    label: np.ndarray  # [M] int64
    score: np.ndarray  # [M] float32
    image: np.ndarray  # [M] int64, place among all images
    iou: np.ndarray  # [M] float64, the highest with an object of its image and class
    truth: np.ndarray  # [M] int64, row of that object among all, NO_OBJECT where there is none
    hit: np.ndarray  # [M] bool, whether that IoU is enough
    ignore: np.ndarray  # [M] bool, whether it is, and that object is difficult


class Boxes(NamedTuple):
    """Objects of some images."""

    image: np.ndarray  # [M] int64, place among these images
    labels: np.ndarray  # [M] int64
    corners: np.ndarray  # [M, 4] float64 xyxy
    scores: np.ndarray  # [M] float32
    ignore: np.ndarray  # [M] bool


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
        pixels = "inclusive pixels (+1)" if self.inclusive else "continuous coordinates"
        return f"VOC AP, IoU {shown(self.iou)}, {RULES[self.rule]}, {pixels}"

    def reset(self) -> None:
        """Discard all images."""
        self.matches: list[Matches] = []
        self.num_images = self.num_seen = 0  # objects seen, difficult ones too
        self.image_of_object = [np.zeros(0, np.int64)]  # of all objects seen
        self.num_true = np.zeros(len(self.classes), np.int64)  # [K] objects that count

    def update(self, predicted: "Objects", true: "Objects", meta: Sequence[Meta]) -> None:
        """Add a batch; boxes in pixels of the original images."""
        predicted.refuse_nan(meta)
        true.refuse_nan(meta)
        self._add(_boxes(predicted), _boxes(true), len(meta))

    def update_table(self, predicted: ObjectTable, true: ObjectTable, images: int) -> None:
        """Add all images of a file, rounded to float32 as a network's boxes are."""
        self._add(_rounded(predicted), _rounded(true), images)

    def _add(self, predicted: Boxes, true: Boxes, images: int) -> None:
        overlap, best = self._best(predicted, true)
        hit = overlap >= self.iou
        difficult = np.append(true.ignore, False)[best]  # row -1: no object
        self.matches.append(
            Matches(
                predicted.labels,
                predicted.scores,
                predicted.image + self.num_images,
                overlap,
                np.where(best == NO_OBJECT, NO_OBJECT, self.num_seen + best),
                hit,
                hit & difficult,
            )
        )
        self.image_of_object.append(true.image + self.num_images)
        self.num_seen += len(true.image)
        self.num_images += images
        self.num_true += np.bincount(true.labels[~true.ignore], minlength=len(self.classes))

    def compute(self) -> dict[str, float]:
        """`mAP`, `recall` (mean of the final recalls), and `AP/NAME` of each class with objects."""
        found, right, wrong = self._positives()
        label = found.label
        numbers = {
            k: self._average(right[label == k], wrong[label == k], self.num_true[k])
            for k in np.flatnonzero(self.num_true)
        }
        ap, recall = np.array([*numbers.values()]).reshape(-1, 2).sum(0) / max(len(numbers), 1)
        each = {f"AP/{self.classes[k]}": number for k, (number, _) in numbers.items()}
        return {"mAP": float(ap), "recall": float(recall), **each}

    def ranked(self) -> dict[str, Ranked]:
        """Detections of each class with objects; those of difficult objects left out."""
        found, right, wrong = self._positives()
        counts = right | wrong
        masks = {k: counts & (found.label == k) for k in np.flatnonzero(self.num_true)}
        return {
            self.classes[k]: Ranked(found.score[m], right[m], int(self.num_true[k]))
            for k, m in masks.items()
        }

    def explain(self) -> list[Matched]:
        """What became of each detection, class by class; its object is the one it overlaps most."""
        found, right, wrong = self._positives()
        number = number_in_image(np.concatenate(self.image_of_object))
        masks = [found.label == k for k in range(len(self.classes))]
        return [
            self._matched(k, Matches(*(column[m] for column in found)), right[m], wrong[m], number)
            for k, m in enumerate(masks)
        ]

    def _matched(
        self, k: int, found: Matches, right: np.ndarray, wrong: np.ndarray, number: np.ndarray
    ) -> Matched:
        total = int(self.num_true[k])
        left_out = ["difficult object: left out" if x else "" for x in found.ignore]
        return Matched(
            self.classes[k],
            total,
            found.image,
            found.score,
            found.iou,
            np.append(number, 0)[found.truth],
            right,
            wrong,
            reasons(found.iou, found.truth, found.truth, right, left_out, number, self.iou),
            f"AP, {RULES[self.rule]}",
            self._average(right, wrong, total)[0] if total else None,
            RECALLS if self.rule == "11_point" else np.zeros(0),
        )

    def findings(self) -> list[Finding]:
        """Whether all detections are of one class."""
        predicted = np.concatenate([found.label for found in self.matches])
        true = np.repeat(np.arange(len(self.classes)), self.num_true)
        return one_class(self.classes, predicted, true, "detections")

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

    def _best(self, predicted: Boxes, true: Boxes) -> tuple[np.ndarray, np.ndarray]:
        """Each detection's highest IoU with an object of its image and class, and its row."""
        detection, truth = _pairs(self._key(predicted), self._key(true))  # [P], [P]
        overlap = self._iou(predicted.corners[detection], true.corners[truth])
        order = np.lexsort((-overlap, detection))  # stable: of equal IoUs, the first object
        detection, first = np.unique(detection[order], return_index=True)
        most, best = np.zeros(len(predicted.image)), np.full(len(predicted.image), -1)
        most[detection], best[detection] = overlap[order][first], truth[order][first]
        return most, best

    def _key(self, objects: Boxes) -> np.ndarray:
        """A number [M] for each pair of image and class."""
        return objects.image * len(self.classes) + objects.labels

    def _iou(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """IoU [P] of boxes a[i] and b[i], [P, 4] each."""
        low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
        inter = (high - low + self.inclusive).clip(0).prod(1)
        areas = [(x[:, 2:] - x[:, :2] + self.inclusive).prod(1) for x in (a, b)]
        return np.divide(inter, areas[0] + areas[1] - inter, np.zeros(len(a)), where=inter > 0)

    def _positives(self) -> tuple[Matches, np.ndarray, np.ndarray]:
        """All matches, highest score first, and which are true and which false positives.

        On a difficult object a detection is neither.
        """
        types = (np.int64, np.float32, np.int64, np.float64, np.int64, bool, bool)
        empty = Matches(*(np.zeros(0, t) for t in types))
        every = Matches(*map(np.concatenate, zip(empty, *self.matches, strict=True)))
        order = np.argsort(-every.score, kind="stable")
        found = Matches(*(column[order] for column in every))
        hits = np.flatnonzero(found.hit & ~found.ignore)
        right = np.zeros(len(order), bool)
        right[hits[np.unique(found.truth[hits], return_index=True)[1]]] = True
        return found, right, ~right & ~found.ignore

    def _average(self, right: np.ndarray, wrong: np.ndarray, total: int) -> tuple[float, float]:
        """Average precision and final recall of one class."""
        tp, fp = right.cumsum(), wrong.cumsum()
        precision = tp / (tp + fp).clip(1)
        ap = average_precision(precision, right, total, self.rule)
        return ap, float(right.sum() / total)


def _boxes(objects: "Objects") -> Boxes:
    image, labels, corners = objects.batch_index, objects.labels, objects.boxes.double()
    columns = (image, labels, corners, objects.scores, objects.ignore)
    return Boxes(*(column.numpy() for column in columns))


def _rounded(table: ObjectTable) -> Boxes:
    table = table.rounded()
    scores = table.scores.astype(np.float32)
    return Boxes(table.image, table.labels, table.corners, scores, table.ignore)


def _pairs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) of all pairs with a[i] == b[j], sorted by i, then j; not by comparing all."""
    order = np.argsort(b, kind="stable")
    start = np.searchsorted(b[order], a)
    count = np.searchsorted(b[order], a, "right") - start
    i = np.repeat(np.arange(len(a)), count)
    within = np.arange(len(i)) - np.repeat(count.cumsum() - count, count)
    return i, order[start[i] + within]
