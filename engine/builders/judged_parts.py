"""Builds the data set and the metric of a configuration, which need no network.

No import of torch here, so that commands that run none do not wait for it.
"""

from omegaconf import DictConfig

from engine.builders.instantiate import part
from engine.errors import UserError
from engine.protocols import Dataset, Metric

GIVEN = {"dataset": ("split",), "metric": ("classes",)}  # to the constructors that name it
SHOWN = 10  # names of classes in a message


def dataset(cfg: DictConfig, split: str | None) -> Dataset:
    """A split of the configured dataset; None: a file that is scored whole.

    Raises:
        UserError: it has no image.
    """
    data = part(cfg.dataset, "dataset", split=split)
    if len(data) == 0:
        raise UserError(f"dataset: the split '{split}' has no image")
    return data


def metric(cfg: DictConfig, classes: list[str]) -> Metric:
    """The configured metric for these classes."""
    return part(cfg.metric, "metric", classes=classes)


def check_objects(data: Dataset) -> None:
    """Refuse a split from which nothing can be learnt.

    Raises:
        UserError: no image has an object of the classes, or every object is ignored.
    """
    ignored = 0
    for record in map(data.record, range(len(data))):
        if len(record.labels) and (record.ignore is None or not record.ignore.all()):
            return
        ignored += len(record.labels)
    if ignored:
        raise UserError(
            f"dataset: all {ignored} objects in {len(data)} images are ignored, as crowds, "
            "difficult objects and boxes without area are: nothing to train on or to score"
        )
    names = ", ".join(data.classes[:SHOWN]) + (" ..." if len(data.classes) > SHOWN else "")
    raise UserError(
        f"dataset: no object of the classes {names} in {len(data)} images: set "
        f"dataset.classes=[...] to those that there are{''.join(f'; {n}' for n in data.notes)}"
    )
