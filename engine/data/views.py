"""The views of an image's truth: all objects, the largest one, or each class that is present."""

from dataclasses import replace

import numpy as np

from engine.errors import UserError, did_you_mean
from engine.record import Record

VIEWS = ("all", "largest", "multilabel")


def check_view(name: str) -> str:
    """The name, if it is one of `VIEWS`; else UserError."""
    if name not in VIEWS:
        hint = did_you_mean(str(name), VIEWS)
        raise UserError(f"dataset.view is '{name}', expected one of {', '.join(VIEWS)}{hint}")
    return name


def apply_view(record: Record, name: str) -> Record:
    """The truth of one image in the view `name`.

    `all` changes nothing. `largest` keeps the object of the largest box, an ignored one only if
    there is no other; of equal boxes the first. `multilabel` has each class once, without boxes;
    a class is ignored if all its objects are. An image without objects has none in any view.
    """
    if name == "all" or not len(record.labels):
        return record if name != "multilabel" else replace(record, boxes=None, area=None)
    ignore = np.zeros(len(record.labels), bool) if record.ignore is None else record.ignore
    if name == "multilabel":
        labels = np.unique(record.labels)
        ignored = np.array([ignore[record.labels == label].all() for label in labels])
        return replace(record, labels=labels, boxes=None, ignore=ignored, area=None)
    area = np.zeros(len(ignore))
    if record.boxes is not None:
        area = (record.boxes[:, 2:] - record.boxes[:, :2]).prod(1)
    best = np.lexsort((-area, ignore))[:1]  # stable
    picked = {
        key: None if (column := getattr(record, key)) is None else column[best]
        for key in ("labels", "boxes", "ignore", "area")
    }
    return replace(record, **picked)
