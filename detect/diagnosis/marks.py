"""The marks on an image: what each detection of a score is, and which objects it lacks."""

from collections import Counter

import numpy as np
from hotcoco import mask

from detect.diagnosis.matched import Matched
from engine.record import rows_by_image
from engine.report.diagnosis import (
    BADLY_PLACED,
    INVENTED,
    KINDS,
    MISSED,
    RIGHT,
    WRONG_CLASS,
    Mark,
)

TWICE = "found twice"
TOUCHES = 0.1  # least IoU of a detection that is meant for an object, TIDE's


class Marks:
    """Of every image, at the best score."""

    def __init__(self, matched: Matched) -> None:
        self.classes, self.predicted, self.true = matched.classes, matched.predicted, matched.true
        self.status, self.found, self.score = matched.status, matched.object, matched.live.best
        self.rows = rows_by_image(self.predicted.image), rows_by_image(self.true.image)

    def of(self, image: int) -> list[Mark]:
        """The true objects of an image, then its detections."""
        detections, objects = (rows.get(image, np.zeros(0, int)) for rows in self.rows)
        detections = detections[self.predicted.scores[detections] >= self.score]
        right = detections[self.status[detections] == 1]
        found = set(self.found[right].tolist())
        marks = [self._object(row, row in found) for row in objects.tolist()]
        no_crowd = [False] * len(objects)
        overlap = mask.iou(self.predicted.boxes[detections], self.true.boxes[objects], no_crowd)
        for place, row in enumerate(detections.tolist()):
            if self.status[row] >= 0:
                marks.append(self._detection(row, objects, overlap[place]))
        return marks

    def reason(self, image: int) -> str:
        """The counts of what is wrong in an image; what is right where nothing is."""
        counts = Counter(
            mark.kind for mark in self.of(image) if not mark.truth or mark.kind == MISSED
        )
        wrong = [f"{counts[kind]} {kind}" for kind in KINDS[1:] if counts[kind]]
        return ", ".join(wrong) or f"all {counts[RIGHT]} right"

    def _object(self, row: int, is_found: bool) -> Mark:
        name, ignored = self.classes[int(self.true.labels[row])], self.true.ignore[row]
        kind = RIGHT if is_found or ignored else MISSED
        text = f"{name} (does not count)" if ignored else name
        return Mark(kind, name, text, "", _corners(self.true.boxes[row]), truth=True)

    def _detection(self, row: int, objects: np.ndarray, overlap: np.ndarray) -> Mark:
        label = int(self.predicted.labels[row])
        name = self.classes[label]
        text = f"{name} {self.predicted.scores[row]:.2f}"
        kind, why = RIGHT, ""
        if self.status[row] == 0:
            same = self.true.labels[objects] == label
            kind, why = _error(overlap, same)
        return Mark(kind, name, text, why, _corners(self.predicted.boxes[row]))


def _error(overlap: np.ndarray, same: np.ndarray) -> tuple[str, str]:
    """The kind of a wrong detection, and a word on it.

    Args:
        overlap: [N] its IoU with the objects of its image.
        same: [N] bool, those of its class.
    """
    if not len(overlap) or overlap.max() < TOUCHES:
        return INVENTED, ""
    own = np.where(same, overlap, 0)
    if own.max() >= 0.5:
        return INVENTED, f"{TWICE} (IoU {_floor(own.max())})"
    if own.max() >= TOUCHES and overlap.max() < 0.5:
        return BADLY_PLACED, f"IoU {_floor(own.max())}"
    if overlap.max() >= 0.5:
        return WRONG_CLASS, f"IoU {_floor(overlap.max())}"
    return WRONG_CLASS, f"and badly placed (IoU {_floor(overlap.max())})"


def _floor(overlap: float) -> str:
    """Two digits, never rounded up to a threshold that was not reached."""
    return f"{int(100 * overlap) / 100:.2f}"


def _corners(box: np.ndarray) -> list[float]:
    x, y, w, h = box.tolist()
    return [x, y, x + w, y + h]
