"""The ids that a predictions file has for classes."""

from typing import Any

from engine.protocols import Dataset, DatasetOptions


def category_ids(dataset: Dataset) -> list[Any]:
    """Return the id of each class in a predictions file."""
    ids = DatasetOptions.categories.of(dataset)
    return list(ids or range(1, len(dataset.classes) + 1))
