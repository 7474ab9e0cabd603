"""What share of pictures has its class among the best k that a network names (ILSVRC's top-k)."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from engine.errors import UserError
from engine.predictions import refuse_nan
from engine.protocols import Says
from engine.structures import Meta, Objects


class TopK:
    """Top-1 and top-k accuracy, shares in 0..1, of pictures with one label.

    A k above the number of classes is left out, for it would always be 1; top1 is always there.
    Expects the head to keep at least the k best classes of a picture.
    """

    primary = "top1"
    requires: ClassVar[Says] = frozenset({"logits"})

    def __init__(self, *, classes: list[str], k: Sequence[int] = (1, 5)) -> None:
        if min(k, default=1) < 1:
            raise UserError(f"k: got {list(k)}, expected whole numbers from 1")
        self.k = sorted({1, *(n for n in k if n <= len(classes))})
        self.reset()

    @property
    def protocol(self) -> str:
        """The rules in one line."""
        names = " and ".join(f"top-{k}" for k in self.k)
        return f"{names} accuracy, one label a picture, one crop"

    def reset(self) -> None:
        """Forget everything."""
        self.ranks = [np.zeros(0)]  # of the true class, from 0; infinite where it is not named

    def update(self, predicted: Objects, true: Objects, meta: Sequence[Meta]) -> None:
        """Rank the true class of each picture of a batch; ignored ones do not count."""
        refuse_nan(predicted, meta)
        _check_one(true, meta)
        label = np.zeros(len(meta), np.int64)  # [B]
        label[true.image.numpy()] = true.labels.numpy()
        image = predicted.image.numpy()
        order = np.lexsort((-predicted.scores.numpy(), image))  # by picture, best first
        image = image[order]
        place = np.arange(len(image)) - np.searchsorted(image, image)
        named = predicted.labels.numpy()[order] == label[image]
        rank = np.full(len(meta), np.inf)  # [B]
        np.minimum.at(rank, image[named], place[named])
        self.ranks.append(rank[true.image[~true.ignore].numpy()])

    def compute(self) -> dict[str, float]:
        """{"top1": share, ...}."""
        rank = np.concatenate(self.ranks)
        return {f"top{k}": float((rank < k).sum() / max(len(rank), 1)) for k in self.k}


def _check_one(true: Objects, meta: Sequence[Meta]) -> None:
    """Raise UserError unless each picture has one object."""
    count = np.bincount(true.image.numpy(), minlength=len(meta))
    for i in np.flatnonzero(count != 1).tolist():
        raise UserError(
            f"top-k needs one object a picture, {meta[i].path or meta[i].id} has {count[i]}: use a "
            "metric for detectors (voc_map, coco_map) or a dataset of one label a picture"
        )
