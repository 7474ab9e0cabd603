"""The diagnosis of a split, and the difference between two."""

from collections.abc import Mapping, Sequence
from typing import Any

import hotcoco
import numpy as np

from detect.diagnosis.advice import advice
from detect.diagnosis.marks import Marks
from detect.diagnosis.matched import Matched, evaluator
from detect.diagnosis.panels import panels
from engine.record import ObjectTable
from engine.report.diagnosis import DRAWS, Diagnosis, Difference

SUSPICIONS = {"wrong_label": "another class?", "missing_annotation": "not annotated?"}


def diagnose(
    classes: Sequence[str],
    predicted: ObjectTable,
    true: ObjectTable,
    images: int,
    numbers: Mapping[str, float],
) -> Diagnosis:
    """Diagnose the detections of a split.

    Args:
        classes: K names.
        predicted: of all images.
        true: of all images.
        images: their number.
        numbers: the metric's; the AP/NAME among them are shown with the classes.
    """
    matched = Matched(classes, predicted, true, images)
    tide = matched.evaluator.tide_errors()
    marks = Marks(matched)
    return Diagnosis(
        advice=advice(matched, tide, marks),
        live=matched.live,
        panels=panels(matched, tide, numbers),
        badness=_badness(matched),
        suspects=[_suspect(row, predicted) for row in matched.label_errors],
        marks=marks.of,
        reason=marks.reason,
    )


def _badness(matched: Matched) -> np.ndarray:
    """How many objects are missed and detections wrong at the best score, [N]."""
    images = matched.images
    shown = matched.predicted.scores >= matched.live.best
    wrong, right = (
        np.bincount(matched.predicted.image[shown & (matched.status == kind)], minlength=images)
        for kind in (0, 1)
    )
    total = np.bincount(matched.true.image[~matched.true.ignore], minlength=images)
    return wrong + total - right


def _suspect(row: dict[str, Any], predicted: ObjectTable) -> dict[str, Any]:
    """A detection of a high score that contradicts the annotation."""
    return {
        "image": row["image_id"] - 1,
        "suspicion": SUSPICIONS[row["type"]],
        "annotated": row["gt_category"] or "",
        "predicted": row["dt_category"],
        "score": row["dt_score"],
        "IoU": row["iou"],
        "box x y w h": " ".join(f"{v:.0f}" for v in predicted.boxes[row["dt_id"] - 1]),
    }


def differences(
    classes: Sequence[str],
    first: ObjectTable,
    second: ObjectTable,
    true: ObjectTable,
    images: int,
) -> list[Difference]:
    """Return how much COCO's twelve numbers of two runs differ, by hotcoco's paired bootstrap."""
    judges = [
        evaluator(classes, table, true, images, true.area, table.area) for table in (first, second)
    ]
    for each in judges:
        each.evaluate()
    found = hotcoco.compare(*judges, n_bootstrap=DRAWS, seed=0)
    return [
        Difference(name, found["deltas"][name], row["lower"], row["upper"], "By hotcoco.")
        for name, row in found["ci"].items()
    ]
