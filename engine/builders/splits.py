"""The splits of a configured dataset, as far as there are such."""

from omegaconf import DictConfig

from engine.builders.instantiate import part
from engine.errors import UserError
from engine.protocols import Dataset

SPLITS = ("train", "val", "test")


def open_splits(
    cfg: DictConfig, names: tuple[str, ...], on_error: str | None = None
) -> tuple[dict[str, Dataset], dict[str, UserError]]:
    """The dataset of each split that exists, and the error of each that cannot be opened.

    Raises:
        UserError: there is none to open.
    """
    splits, failed, absent = {}, {}, []
    for name in names:
        try:
            splits[name] = open_split(cfg, name, on_error)
        except UserError as error:
            if str(error).startswith("no split"):
                absent.append(error)
            else:
                failed[name] = error
    if not splits:
        raise [*failed.values(), *absent][0]
    return splits, failed


def open_split(cfg: DictConfig, name: str, on_error: str | None) -> Dataset:
    """A split of the dataset; with this `on_error`, if one is given and the dataset has the key."""
    node = cfg.dataset.copy()
    if on_error and "on_error" in node:
        node.on_error = on_error
    return part(node, "dataset", split=name)
