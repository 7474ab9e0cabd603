"""One box an image, and perhaps its class, against the largest object."""

from collections.abc import Mapping, Sequence

import numpy as np

from detect.diagnosis.diagnose import diagnose
from engine.record import ObjectTable
from engine.report.diagnosis import Diagnosis


def diagnose_single(
    classes: Sequence[str] | None,
    predicted: ObjectTable,
    true: ObjectTable,
    images: int,
    numbers: Mapping[str, float],
) -> Diagnosis:
    """Diagnose the box of highest score of each image against its largest object that counts.

    Args:
        classes: K names; None where boxes have no class.
        predicted: of all images.
        true: of all images.
        images: their number.
        numbers: the metric's.
    """
    area = np.where(true.ignore, -1, true.boxes[:, 2:].prod(1))
    best, largest = _first(predicted, predicted.scores), _first(true, area)
    if classes is None:
        best, largest = (part._replace(labels=0 * part.labels) for part in (best, largest))
    return diagnose(classes or ["object"], best, largest, images, numbers)


def _first(table: ObjectTable, key: np.ndarray) -> ObjectTable:
    """The object of each image with the highest key, the first of ties."""
    order = np.lexsort((-key, table.image))  # stable
    _, first = np.unique(table.image[order], return_index=True)
    rows = order[first]
    return ObjectTable(*(column[rows] for column in table))
