"""How often the class of an image is the network's best, or among its best k.

Top-k accuracy is ILSVRC's measure; precision, recall and F1 take each image's best class.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from classify.diagnosis.one_class import one_class
from classify.diagnosis.one_label import diagnose_one_label, differences_one_label
from classify.metrics.confusion import draw_confusion
from engine.config.ranges import Count
from engine.errors import UserError
from engine.finding import Finding
from engine.protocols import OutputFields
from engine.record import Meta, ObjectTable, Ranked
from engine.report.diagnosis import Diagnosis, Difference
from engine.structures import Objects

NAMES = ("precision", "recall", "f1")
DRAWN = 1000  # classes; the confusion matrix of 10,000 takes gigabytes to draw
CURVES = 100  # classes; of more the scores are not kept: ImageNet's would take 200 MB


class TopK:
    """Top-1 and top-k accuracy, shares in 0..1, of images with one label.

    A k above the number of classes is left out, for it would always be 1; top1 is always there.
    Expects the head to keep at least the k best classes of an image. Of classes with equal scores
    the first in the dataset's order ranks first.

    `precision`, `recall` and `f1` are means over the classes that some image has; a class never
    predicted has 0. `entropy` is the mean over the images of -sum p ln p, in nats, where p are
    an image's scores divided by their sum: 0 is certain, ln K a guess. It is reported where
    every image has a score for every class.

    Args:
        k: ranks up to which the true class counts as found.
        per_class: whether `precision/<class>`, `recall/<class>` and `f1/<class>` are reported too.
    """

    primary = "top1"
    requires: ClassVar[OutputFields] = frozenset({"logits"})
    many_labels: ClassVar[bool] = False

    def __init__(
        self, *, classes: list[str], k: Sequence[Count] = (1, 5), per_class: bool = True
    ) -> None:
        if min(k, default=1) < 1:
            raise UserError(f"k: got {list(k)}, expected whole numbers from 1")
        self.k = sorted({1, *(n for n in k if n <= len(classes))})
        self.classes, self.per_class = classes, per_class
        self.reset()

    @property
    def protocol(self) -> str:
        """The rules in one line."""
        names = " and ".join(f"top-{k}" for k in self.k)
        return f"{names} accuracy, one label an image, one crop"

    def reset(self) -> None:
        """Forget everything."""
        self.ranks = [np.zeros(0)]  # of the true class, from 0; infinite where it is not named
        self.true = [np.zeros(0, np.int64)]
        self.best = [np.zeros(0, np.int64)]  # class of the highest score, -1 where none is named
        self.scores = [np.zeros((0, len(self.classes)), np.float32)]  # NaN where not named
        self.entropy = 0.0  # the sum over the images, NaN once one does not name every class

    def update(self, predicted: Objects, true: Objects, meta: Sequence[Meta]) -> None:
        """Rank the true class of each image of a batch; ignored ones do not count."""
        predicted.refuse_nan(meta)
        _check_one(true, meta)
        label = np.zeros(len(meta), np.int64)  # [B]
        label[true.batch_index.numpy()] = true.labels.numpy()
        image = predicted.batch_index.numpy()
        by_class = predicted.labels.numpy()  # of equal scores the lower class first
        order = np.lexsort((by_class, -predicted.scores.numpy(), image))  # by image, best first
        image, labels = image[order], predicted.labels.numpy()[order]
        place = np.arange(len(image)) - np.searchsorted(image, image)
        named = labels == label[image]
        rank, best = np.full(len(meta), np.inf), np.full(len(meta), -1)  # [B], [B]
        np.minimum.at(rank, image[named], place[named])
        best[image[place == 0]] = labels[place == 0]
        counted = true.batch_index[~true.ignore].numpy()
        self.ranks.append(rank[counted])
        self.true.append(label[counted])
        self.best.append(best[counted])
        scores = np.full((len(meta), len(self.classes)), np.nan)  # [B, K]
        scores[image, labels] = predicted.scores.numpy()[order]
        self.entropy += float(_entropies(scores[counted]).sum())
        if len(self.classes) <= CURVES:
            self.scores.append(scores[counted].astype(np.float32))

    def compute(self) -> dict[str, float]:
        """{"top1": share, ...}."""
        rank = np.concatenate(self.ranks)
        numbers = {f"top{k}": float((rank < k).sum() / max(len(rank), 1)) for k in self.k}
        table = self._precision_recall_f1()  # [K, 3]
        occurs = np.unique(np.concatenate(self.true))
        mean = table[occurs].sum(0) / max(len(occurs), 1)
        numbers |= dict(zip(NAMES, mean.tolist(), strict=True))
        if len(rank) and np.isfinite(self.entropy):
            numbers["entropy"] = self.entropy / len(rank)
        for column, name in enumerate(NAMES if self.per_class else ()):
            numbers |= {f"{name}/{self.classes[i]}": float(table[i, column]) for i in occurs}
        return numbers

    def images(self) -> dict[str, np.ndarray]:
        """The confusion matrix [H, W, 3], uint8 RGB; none above DRAWN classes."""
        if len(self.classes) > DRAWN:
            return {}
        return {"confusion": draw_confusion(self._confusion()[:, :-1], self.classes)}

    def ranked(self) -> dict[str, Ranked]:
        """Scores of the images, and which are right, for each class that some image has.

        A class that an image does not name scores 0 there. Empty above CURVES
        classes.
        """
        if len(self.classes) > CURVES:
            return {}
        scores, true = np.nan_to_num(np.concatenate(self.scores)), np.concatenate(self.true)
        right = {k: true == k for k in np.unique(true).tolist()}
        return {self.classes[k]: Ranked(scores[:, k], r, int(r.sum())) for k, r in right.items()}

    def findings(self) -> list[Finding]:
        """Whether one class is the best of all images."""
        best = np.concatenate(self.best)
        return one_class(self.classes, best[best >= 0], np.concatenate(self.true), "images")

    def diagnose(
        self, predicted: ObjectTable, true: ObjectTable, images: int, numbers: dict[str, float]
    ) -> Diagnosis:
        """What is right and wrong."""
        return diagnose_one_label(self.classes, predicted, true, images, numbers)

    def differences(
        self, first: ObjectTable, second: ObjectTable, true: ObjectTable, images: int
    ) -> list[Difference]:
        """How much the top-1 accuracy of two runs differs."""
        return differences_one_label(self.classes, first, second, true, images)

    def _confusion(self) -> np.ndarray:
        """Images by true and best class [K, K + 1]; the last column named nothing."""
        size = len(self.classes)
        cell = np.concatenate(self.true) * (size + 1) + np.concatenate(self.best) % (size + 1)
        return np.bincount(cell, minlength=size * (size + 1)).reshape(size, size + 1)

    def _precision_recall_f1(self) -> np.ndarray:
        """[K, 3], 0 where a class is never predicted or never true."""
        true, best = np.concatenate(self.true), np.concatenate(self.best)
        right, predicted, true = (
            np.bincount(labels, minlength=len(self.classes))
            for labels in (true[true == best], best[best >= 0], true)
        )
        parts = [right / predicted.clip(1), right / true.clip(1)]
        return np.stack([*parts, 2 * right / (predicted + true).clip(1)], 1)


def _entropies(scores: np.ndarray) -> np.ndarray:
    """Of each image's [N, K] shares of the sum [N]; NaN where it does not name every class."""
    total = scores.sum(1, keepdims=True)
    share = np.divide(scores, total, np.zeros_like(scores), where=total != 0)
    return -np.sum(share * np.log(np.where(share > 0, share, 1)), 1)


def _check_one(true: Objects, meta: Sequence[Meta]) -> None:
    """Raise UserError unless each image has one object."""
    count = np.bincount(true.batch_index.numpy(), minlength=len(meta))
    for i in np.flatnonzero(count != 1).tolist():
        raise UserError(
            f"top-k needs one object an image, {meta[i].path or meta[i].id} has {count[i]}: use a "
            "metric for detectors (voc_map, coco_map) or a dataset of one label an image"
        )
