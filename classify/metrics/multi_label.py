"""Images with any number of labels, as in VOC's classification task (IJCV 2010, section 4.1).

For each class the images are ranked by its score. Deviation: images of equal score share a
rank, so that their order does not count; in the devkit it does.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from classify.diagnosis.many_labels import diagnose_many_labels
from classify.metrics.average_precision import RULES, average_precision, check_rule
from engine.config.ranges import InnerShare
from engine.errors import UserError
from engine.protocols import OutputFields
from engine.record import Meta, ObjectTable, Ranked
from engine.report.diagnosis import Diagnosis
from engine.structures import Objects

ABSENT, DIFFICULT, PRESENT = -1, 0, 1  # as in VOC's per-class lists; DIFFICULT does not count


class MultiLabel:
    """Mean average precision of the classes, and the share of right decisions.

    A class that an image does not name scores 0 there; it has no AP where no image has it.
    `accuracy` is over all pairs of an image and a class; a class is predicted at a score of
    at least `threshold`. An image whose only objects of a class are ignored does not count for it.

    Args:
        rule: all_point, or 11_point as VOC 2007.
        threshold: least score at which a class counts as predicted.
    """

    primary = "mAP"
    requires: ClassVar[OutputFields] = frozenset({"logits"})
    many_labels: ClassVar[bool] = True

    def __init__(
        self, *, classes: list[str], rule: str = "all_point", threshold: InnerShare = 0.5
    ) -> None:
        check_rule(rule)
        if not 0 < threshold < 1:
            raise UserError(f"threshold: got {threshold}, expected a score between 0 and 1")
        self.classes, self.rule, self.threshold = classes, rule, threshold
        self.reset()

    @property
    def protocol(self) -> str:
        """The rules in one line."""
        return (
            f"VOC classification AP, {RULES[self.rule]}, equal scores share a rank; "
            f"accuracy of labels at score {self.threshold}"
        )

    def reset(self) -> None:
        """Forget everything."""
        self.scores = [np.zeros((0, len(self.classes)), np.float32)]
        self.truth = [np.zeros((0, len(self.classes)), np.int8)]

    def update(self, predicted: Objects, true: Objects, meta: Sequence[Meta]) -> None:
        """Add the scores and the truth of each image of a batch for each class."""
        predicted.refuse_nan(meta)
        shape = (len(meta), len(self.classes))
        scores = np.zeros(shape, np.float32)  # [B, K]
        named = (predicted.batch_index.numpy(), predicted.labels.numpy())
        np.maximum.at(scores, named, predicted.scores.numpy())
        truth = np.full(shape, ABSENT, np.int8)  # [B, K]
        marks = np.where(true.ignore.numpy(), DIFFICULT, PRESENT).astype(np.int8)
        np.maximum.at(truth, (true.batch_index.numpy(), true.labels.numpy()), marks)
        self.scores.append(scores)
        self.truth.append(truth)

    def compute(self) -> dict[str, float]:
        """mAP, accuracy, and the AP of each class that some image has."""
        scores, truth = np.concatenate(self.scores), np.concatenate(self.truth)  # [N, K] each
        numbers = {
            f"AP/{self.classes[k]}": self._average(scores[:, k], truth[:, k])
            for k in np.flatnonzero((truth == PRESENT).any(0))
        }
        right = (scores >= self.threshold) == (truth == PRESENT)
        counted = truth != DIFFICULT
        return {
            "mAP": sum(numbers.values()) / max(len(numbers), 1),
            "accuracy": float(right[counted].sum() / max(counted.sum(), 1)),
            **numbers,
        }

    def ranked(self) -> dict[str, Ranked]:
        """Scores of the images, and which are right, for each class that some image has."""
        scores, truth = np.concatenate(self.scores), np.concatenate(self.truth)  # [N, K] each
        counted = {k: truth[:, k] != DIFFICULT for k in np.flatnonzero((truth == PRESENT).any(0))}
        right = {k: truth[m, k] == PRESENT for k, m in counted.items()}
        return {
            self.classes[k]: Ranked(scores[m, k], right[k], int(right[k].sum()))
            for k, m in counted.items()
        }

    def diagnose(
        self, predicted: ObjectTable, true: ObjectTable, images: int, numbers: dict[str, float]
    ) -> Diagnosis:
        """What is right and wrong."""
        return diagnose_many_labels(self.classes, predicted, true, images, numbers)

    def _average(self, scores: np.ndarray, truth: np.ndarray) -> float:
        """Average precision of one class from [N] scores and truths."""
        scores, right = scores[truth != DIFFICULT], truth[truth != DIFFICULT] == PRESENT
        order = np.argsort(-scores, kind="stable")
        scores, right = scores[order], right[order]
        # Of images of equal score all count, or none.
        last = np.searchsorted(-scores, -scores, "right") - 1
        precision = right.cumsum()[last] / (last + 1)
        return average_precision(precision, right, int(right.sum()), self.rule)
