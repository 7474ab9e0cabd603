"""Mean average precision by the rules of PASCAL VOC.

The matching of the VOC development kit's VOCevaldet.m (Everingham et al., IJCV 2010, section 4.2):
a detection goes to the truth of its image and class that it overlaps most; it is right where that
overlap reaches the threshold and no better scored detection has taken the same truth.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from classify.metrics.average_precision import RULES, average_precision, check_rule
from engine.errors import UserError
from engine.protocols import OutputFields, Ranked
from engine.structures import Meta, Objects, refuse_nan


class Matches(NamedTuple):
    """What is kept of each detection: which truth it falls on does not depend on the others."""

    label: np.ndarray  # [M] int64
    score: np.ndarray  # [M] float32
    truth: np.ndarray  # [M] int64, number of the truth it overlaps enough, -1 where there is none
    ignore: np.ndarray  # [M] bool, that truth is difficult


class VOCMap:
    """VOC's mAP. Difficult objects are not counted, and finding one is not penalised.

    `inclusive` takes a box's corners for its first and last pixel, as VOC's own files do: sides are
    x2 - x1 + 1. A class without a countable object has no AP and no part in the mean.
    """

    primary = "mAP"
    requires: ClassVar[OutputFields] = frozenset({"logits", "boxes"})

    def __init__(
        self,
        *,
        classes: list[str],
        iou: float = 0.5,
        rule: str = "all_point",
        inclusive: bool = True,
    ) -> None:
        check_rule(rule)
        if not 0 < iou <= 1:
            raise UserError(f"iou: got {iou}, expected an overlap above 0 and at most 1")
        self.classes, self.iou, self.rule, self.inclusive = classes, iou, rule, inclusive
        self.reset()

    @property
    def protocol(self) -> str:
        """The rules in one line."""
        iou = max(f"{self.iou:.2f}", str(self.iou), key=len)
        pixels = "inclusive pixels (+1)" if self.inclusive else "continuous coordinates"
        return f"VOC AP, IoU {iou}, {RULES[self.rule]}, {pixels}"

    def reset(self) -> None:
        """Forget everything."""
        self.matches: list[Matches] = []
        self.num_seen = 0  # truths, difficult ones too
        self.num_true = np.zeros(len(self.classes), np.int64)  # [K] truths that count

    def update(self, predicted: Objects, true: Objects, meta: Sequence[Meta]) -> None:
        """Match the detections of a batch; boxes in pixels of the originals."""
        refuse_nan(predicted, meta)
        refuse_nan(true, meta)
        overlap, best = self._best(predicted, true)
        hit = overlap >= self.iou
        difficult = np.append(true.ignore.numpy(), False)[best]  # best is -1 where there is none
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
        """mAP, the mean of the highest recalls, and the AP of each class with objects."""
        label, _, right, wrong = self._judge()
        numbers = {
            k: self._average(right[label == k], wrong[label == k], self.num_true[k])
            for k in np.flatnonzero(self.num_true)
        }
        ap, recall = np.array([*numbers.values()]).reshape(-1, 2).sum(0) / max(len(numbers), 1)
        each = {f"AP/{self.classes[k]}": number for k, (number, _) in numbers.items()}
        return {"mAP": float(ap), "recall": float(recall), **each}

    def ranked(self) -> dict[str, Ranked]:
        """The detections of each class with objects; those of difficult objects do not count."""
        label, score, right, wrong = self._judge()
        counts = right | wrong
        mine = {k: counts & (label == k) for k in np.flatnonzero(self.num_true)}
        return {
            self.classes[k]: Ranked(score[m], right[m], int(self.num_true[k]))
            for k, m in mine.items()
        }

    def _best(self, predicted: Objects, true: Objects) -> tuple[np.ndarray, np.ndarray]:
        """Each detection's largest overlap with a truth of its image and class, and which."""
        detection, truth = _pairs(self._key(predicted), self._key(true))  # [P], [P]
        overlap = self._overlap(
            predicted.boxes.double().numpy()[detection], true.boxes.double().numpy()[truth]
        )
        order = np.lexsort((-overlap, detection))  # stable: of equal overlaps, the first truth
        detection, first = np.unique(detection[order], return_index=True)
        most, best = np.zeros(len(predicted)), np.full(len(predicted), -1)
        most[detection], best[detection] = overlap[order][first], truth[order][first]
        return most, best

    def _key(self, objects: Objects) -> np.ndarray:
        """One number for an image and a class."""
        return (objects.batch_index * len(self.classes) + objects.labels).numpy()

    def _overlap(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """IoU of boxes a[i] and b[i], [P, 4] each; 0 where they do not meet."""
        low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
        inter = (high - low + self.inclusive).clip(0).prod(1)
        areas = [(x[:, 2:] - x[:, :2] + self.inclusive).prod(1) for x in (a, b)]
        return np.divide(inter, areas[0] + areas[1] - inter, np.zeros(len(a)), where=inter > 0)

    def _judge(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Label, score, right, wrong of all by falling score; on a difficult truth neither."""
        nothing = Matches(*(np.zeros(0, t) for t in (np.int64, np.float32, np.int64, bool)))
        every = Matches(*map(np.concatenate, zip(nothing, *self.matches, strict=True)))
        order = np.argsort(-every.score, kind="stable")
        label, score, truth, ignore = (column[order] for column in every)
        first = np.zeros(len(order), bool)
        first[np.unique(truth, return_index=True)[1]] = True
        right = first & (truth >= 0) & ~ignore
        return label, score, right, ~right & ~ignore

    def _average(self, right: np.ndarray, wrong: np.ndarray, total: int) -> tuple[float, float]:
        """Average precision and highest recall of one class."""
        found, lost = right.cumsum(), wrong.cumsum()
        precision = found / (found + lost).clip(1)
        ap = average_precision(precision, right, total, self.rule)
        return ap, float(right.sum() / total)


def _pairs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) of all pairs with a[i] == b[j], by i, then j; no other pair is looked at."""
    order = np.argsort(b, kind="stable")
    start = np.searchsorted(b[order], a)
    count = np.searchsorted(b[order], a, "right") - start
    i = np.repeat(np.arange(len(a)), count)
    within = np.arange(len(i)) - np.repeat(count.cumsum() - count, count)
    return i, order[start[i] + within]
