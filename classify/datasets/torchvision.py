"""Data sets that torchvision knows, such as CIFAR10: dataset=torchvision dataset.name=CIFAR10."""

from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets

from engine.config.ranges import PartialShare, Seed
from engine.data.image_dataset import ImageDataset
from engine.data.index import Index, file_names
from engine.data.splits import find_split
from engine.errors import UserError, did_you_mean

HALVES = {"train": {"train": True}, "test": {"train": False}}


def _named(*names: str) -> dict[str, dict[str, str]]:
    return {name: {"split": name} for name in names}


# Splits of each by the arguments that choose them; those of one label an image.
SETS: dict[str, dict[str, dict[str, Any]]] = {
    "CIFAR10": HALVES,
    "CIFAR100": HALVES,
    "DTD": _named("train", "val", "test"),
    "EuroSAT": {"train": {}},
    "FashionMNIST": HALVES,
    "FGVCAircraft": _named("train", "val", "trainval", "test"),
    "Flowers102": _named("train", "val", "test"),
    "Food101": _named("train", "test"),
    "GTSRB": _named("train", "test"),
    "KMNIST": HALVES,
    "MNIST": HALVES,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "STL10": _named("train", "test"),
    "SVHN": _named("train", "test", "extra"),
    "USPS": HALVES,
}
LABELS = ("targets", "_labels", "labels", "_samples")  # of a set's attributes that which it has
COUNTS = {"EuroSAT": 10, "Flowers102": 102, "GTSRB": 43, "SVHN": 10, "USPS": 10}  # without names


class Torchvision(ImageDataset):
    """Images of one split, and the label of each; its id is its row in torchvision's split.

    Args:
        name: one of `SETS`.
        root: the folder that torchvision keeps the set in.
        download: fetch the set where it is not there; torchvision holds it against its checksum.
        val_share: of each class of train, held out as "val" where the set has no such split.
        seed: of that choice.
        on_error: what an image that cannot be read does: "fail" or "skip".
    """

    stored = False  # torchvision opens them

    def __init__(
        self,
        *,
        name: str,
        root: str,
        split: str,
        download: bool = False,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        on_error: str = "fail",
    ) -> None:
        super().__init__(on_error=on_error)
        if name not in SETS:
            hint = did_you_mean(name, SETS)
            raise UserError(f"dataset.name is '{name}', expected one of {', '.join(SETS)}{hint}")
        own = SETS[name]
        how = find_split(split, root=name, own=own, lists=None, val_share=val_share)
        self.folder = str(Path(root).expanduser())
        self.data = _load(name, self.folder, download, own[how.source])
        labels = _labels(self.data)
        count = COUNTS.get(name)
        names = range(count) if count else self.data.classes
        self.classes = [str(n) for n in names]
        rows = np.arange(len(labels))
        files = file_names([f"{name}/{how.source}/{row:06d}" for row in rows])
        self.index = Index(files, np.arange(len(labels) + 1), labels, ids=rows)
        self.select_split(how, split, val_share, seed)

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        row = int(self.index.ids[index])  # type: ignore[index]
        try:
            return np.asarray(self.data[row][0].convert("RGB"))
        except OSError as error:
            raise UserError(f"cannot read the image {self.record(index).path}: {error}") from None


def _load(name: str, root: str, download: bool, which: dict[str, Any]) -> Any:
    try:
        return getattr(torchvision.datasets, name)(root=root, download=download, **which)
    except (RuntimeError, OSError) as error:
        info = "" if download else "; dataset.download=true fetches it"
        raise UserError(f"dataset.root={root}: {name} is not there whole ({error}){info}") from None


def _labels(data: Any) -> np.ndarray:
    """[N] int64, without decoding an image."""
    kept = next(getattr(data, name) for name in LABELS if hasattr(data, name))
    return np.array([row[1] if isinstance(row, tuple) else int(row) for row in kept], np.int64)
