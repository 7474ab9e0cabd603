"""All true objects of a data set in one table, to judge predictions by. No import of torch here."""

import numpy as np

from engine.protocols import Dataset, DatasetOptions
from engine.record import ObjectTable, columns


def truth_table(data: Dataset) -> ObjectTable:
    """Return the objects as their file states them, else those of its records, by image.

    No image is opened: where an annotation declares no size, none of its boxes counts as outside.
    """
    table = DatasetOptions.table.of(data)
    if table is not None:
        return table()
    records = [data.record(i) for i in range(len(data))]
    corners, labels, image, ignore, area = columns(records, [r.size or (0, 0) for r in records])
    boxes = corners.astype(float)  # which keeps the difference of two float32 numbers
    boxes[:, 2:] -= boxes[:, :2]
    return ObjectTable(image, labels, boxes, np.ones(len(image)), area.astype(float), ignore)
