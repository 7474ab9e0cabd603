"""The protocol line of a number: the metric's rules, and whatever else it was made with."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from engine.protocols import Dataset, DatasetOptions, Metric
from engine.record import Meta, Record, is_outside


def describe(
    metric: Metric,
    data: Dataset,
    images: Iterable[Meta] | None = None,
    decoding: str = "",
    subset: str = "",
    passes: str = "",
) -> str:
    """Return the protocol in one line.

    Args:
        metric: that made the number.
        data: whose objects it counts; those that our rule ignores are named.
        images: of the data that were used; None: all.
        decoding: the threshold and limits of the head whose predictions they are.
        subset: what picked `images`, see `subset`.
        passes: of each image through the network, where there are several.
    """
    uncounted = count_uncounted(data, images)
    boxes = f"{uncounted} box{'es' * (uncounted != 1)} without area or outside their image"
    rule = (
        f"{boxes} {'do' if uncounted != 1 else 'does'} not count (pycocotools would count them)"
        if uncounted
        else ""
    )
    return "; ".join(filter(None, (metric.protocol, decoding, passes, subset, rule)))


def subset(trainer: Any) -> str:
    """Return which images `trainer.overfit` and `trainer.limit` leave of a split, else ""."""
    parts = []
    if trainer.overfit is not None:
        parts.append(f"only the first images (trainer.overfit={trainer.overfit})")
    if trainer.limit is not None:
        parts.append(f"only the first batches (trainer.limit={trainer.limit})")
    return ", ".join(parts)


def count_uncounted(dataset: Dataset, images: Iterable[Meta] | None = None) -> int:
    """Return how many true boxes our rule ignores and pycocotools does not.

    Args:
        dataset: with the true boxes.
        images: those used; None: all, which are not opened and have their declared size.
    """
    if DatasetOptions.table.of(dataset):  # scored as its file states it
        return 0
    if images is None:
        images = (Meta.of(i, dataset.record(i)) for i in range(len(dataset)))
    return sum(_count(dataset.record(meta.index), meta.size) for meta in images)


def _count(record: Record, size: tuple[int, int]) -> int:
    if record.boxes is None or not len(record.boxes):
        return 0
    boxes = np.asarray(record.boxes)
    flat = (boxes[:, :2] == boxes[:, 2:]).any(1)
    return int((flat | is_outside(boxes, np.array(record.size or size))).sum())
