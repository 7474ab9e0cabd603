"""Of images with one label."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from classify.diagnosis.scores import BINS, calibration, scores_of
from engine.record import ObjectTable
from engine.report.diagnosis import (
    DRAWS,
    THRESHOLDS,
    Chart,
    Diagnosis,
    Difference,
    Live,
    Place,
    Table,
    best_threshold,
    counts_at,
)

TOP = 20  # confusions that are listed
SUSPECT = 0.9  # least score of a class that contradicts the annotation


def diagnose_one_label(
    classes: Sequence[str],
    predicted: ObjectTable,
    true: ObjectTable,
    images: int,
    numbers: Mapping[str, float],
) -> Diagnosis:
    """Diagnose the classes of highest score of images with one label.

    Args:
        classes: K names.
        predicted: of all images; boxes are not read.
        true: of all images, one object each.
        images: their number.
        numbers: the metric's.
    """
    return _OneLabel(classes, scores_of(predicted, images, len(classes)), true).diagnosis()


class _OneLabel:
    """The class of highest score of each image that counts."""

    def __init__(self, classes: Sequence[str], scores: np.ndarray, true: ObjectTable) -> None:
        self.classes, self.scores = classes, scores
        self.best, self.top = scores.argmax(1), scores.max(1, initial=0)  # [N], [N]
        self.true = np.full(len(scores), -1)  # [N], -1: does not count
        counted = ~true.ignore
        self.true[true.image[counted]] = true.labels[counted]
        self.counts = self.true >= 0
        self.right = self.best == self.true  # [N]
        self.live = self._live()

    def diagnosis(self) -> Diagnosis:
        """Everything the page shows."""
        return Diagnosis(
            advice=self._advice(),
            live=self.live,
            panels=[
                self._class_table(),
                self._confusions(),
                calibration(self.top[self.counts], self.right[self.counts], "images"),
                self._confidence(),
            ],
            badness=np.where(self.counts & ~self.right, self.top, 0),
            suspects=self._suspects(),
            reason=self._reason,
        )

    def _live(self) -> Live:
        size = len(self.classes)
        right, wrong = (
            counts_at(THRESHOLDS, self.top[mask].clip(0, 1), self.best[mask], size)
            for mask in (self.counts & self.right, self.counts & ~self.right)
        )
        total = np.bincount(self.true[self.counts], minlength=size)
        cells = [self._confusion(score) for score in THRESHOLDS]
        best = best_threshold(THRESHOLDS, right, wrong, total)
        names = list(self.classes)
        return Live(THRESHOLDS.tolist(), names, right, wrong, total, cells, names,
                    [*names, "no answer"], best, "images")  # fmt: skip

    def _confusion(self, score: float) -> list[tuple[int, int, int]]:
        size = len(self.classes)
        column = np.where(self.top >= score, self.best, size)[self.counts]
        cell, count = np.unique(self.true[self.counts] * (size + 1) + column, return_counts=True)
        return [
            (int(c) // (size + 1), int(c) % (size + 1), int(n))
            for c, n in zip(cell, count, strict=True)
        ]

    def _class_table(self) -> Table:
        right, wrong, total = self.live.right[0], self.live.wrong[0], self.live.total
        f1 = self.live.f1()[0]
        rows = [
            (name, int(total[k]), _share(right[k], total[k]), _share(right[k], right[k] + wrong[k]),
             float(f1[k]), int(total[k] - right[k]), int(wrong[k]))
            for k, name in enumerate(self.classes)
        ]  # fmt: skip
        note = "Each image's class of highest score, whatever the score."
        columns = ("class", "images", "recall", "precision", "F1", "missed", "wrongly named")
        return Table("Classes", note, columns, rows)

    def _confused(self) -> list[tuple[int, int, int]]:
        """The cells off the diagonal, the most images first."""
        cells = [cell for cell in self.live.confusion[0] if cell[0] != cell[1]]
        return sorted(cells, key=lambda cell: -cell[2])

    def _confusions(self) -> Table:
        rows = []
        for row, column, count in self._confused()[:TOP]:
            of = np.flatnonzero(self.counts & (self.true == row) & (self.best == column))
            worst = of[np.argsort(-self.top[of], kind="stable")]
            total = int(self.live.total[row])
            rows.append(
                (
                    self.classes[row],
                    self.classes[column],
                    count,
                    count / total,
                    Place(int(worst[0])),
                )
            )
        columns = ("is", "was called", "images", "share of the class", "most certain")
        return Table("Confusions", f"The {TOP} most frequent.", columns, rows)

    def _confidence(self) -> Chart:
        edges = np.linspace(0, 1, 2 * BINS + 1)
        lines = {}
        for name, mask in (("right", self.right), ("wrong", ~self.right)):
            lines[name] = (edges[:-1], np.histogram(self.top[mask & self.counts], edges)[0])
        return Chart(
            "Confidence", "The highest score of each image.", "score", "images", lines, "bar"
        )

    def _suspects(self) -> list[dict[str, Any]]:
        rows = np.flatnonzero(self.counts & ~self.right & (self.top >= SUSPECT))
        rows = rows[np.argsort(-self.top[rows], kind="stable")]
        return [
            {
                "image": i,
                "suspicion": "another class?",
                "annotated": self.classes[self.true[i]],
                "predicted": self.classes[self.best[i]],
                "score": float(self.top[i]),
            }
            for i in map(int, rows)
        ]

    def _reason(self, image: int) -> str:
        called = f"{self.classes[self.best[image]]} {self.top[image]:.2f}"
        if self.true[image] < 0:
            return f"called {called}; does not count"
        is_named = f"is {self.classes[self.true[image]]}"
        if self.right[image]:
            return f"right: {called}"
        own = self.scores[image, self.true[image]]
        return f"{is_named} ({own:.2f}), called {called}"

    def _advice(self) -> str:
        total = int(self.counts.sum())
        wrong = int((self.counts & ~self.right).sum())
        start = f"{total - wrong} of {total} images are right; "
        cells = self._confused()
        if not cells:
            return start + "nothing is confused."
        row, column, count = cells[0]
        return (
            f"{start}{count} of the {wrong} errors are {self.classes[row]} taken for "
            f"{self.classes[column]}."
        )


def differences_one_label(
    classes: Sequence[str],
    first: ObjectTable,
    second: ObjectTable,
    true: ObjectTable,
    images: int,
) -> list[Difference]:
    """Return how much the top-1 accuracy of two runs differs, with a paired bootstrap."""
    runs = [
        _OneLabel(classes, scores_of(table, images, len(classes)), true)
        for table in (first, second)
    ]
    change = (runs[1].right.astype(float) - runs[0].right)[runs[0].counts]
    draws = np.random.default_rng(0).integers(0, max(len(change), 1), (DRAWS, len(change)))
    low, high = np.quantile(change[draws].mean(1), [0.025, 0.975]) if len(change) else (0.0, 0.0)
    value = float(change.mean()) if len(change) else 0.0
    return [Difference("top1", value, float(low), float(high), "")]


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
