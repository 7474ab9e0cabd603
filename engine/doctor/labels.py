"""Findings about the labels of a data set, whatever is learnt of them."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from omegaconf import DictConfig

from engine.data import survey
from engine.finding import Finding
from engine.protocols import Dataset
from engine.record import Record

FEW = 5  # objects of a class below which it is named: a tenth held out has none of them
# From so many classes on, a set of fewer images than FEW a class is a sample of a longer list (80
# images of COCO have 48 rare classes of 80), whose classes cannot all have FEW.
LONG = 20
NAMED = 10  # images whose paths name a class, from which these are compared with the labels
SHOWN = 5  # names of classes in a line


def of_data(
    node: DictConfig, train: Dataset, val: Dataset, records: Sequence[Record]
) -> list[Finding]:
    """Return what the labels of a data set show, whatever is trained on them.

    Args:
        node: of the configuration's data set.
        train: its training images.
        val: its validation images.
        records: of some of train.
    """
    counts = [survey.counts(data, len(data)) for data in (train, val)]
    if counts[0] is None or counts[1] is None:
        return []
    key = "dataset.classes" if "classes" in node else "dataset.root"
    return [
        *findings(train.classes, counts[0], counts[1], len(train), key),
        *named_otherwise(train.classes, records, key),
    ]


def findings(
    classes: Sequence[str],
    train: np.ndarray,
    val: np.ndarray,
    images: int,
    key: str,
) -> list[Finding]:
    """Return what the numbers of objects show.

    Args:
        classes: K names.
        train: [K] objects of each.
        val: [K] alike.
        images: of train.
        key: that chooses the classes, or else the data.
    """
    used = (train + val) > 0
    found = []
    shifted = bool(len(classes) > 1 and not used[0] and train[1:].all())
    if shifted:
        found.append(
            Finding(
                f"the labels look shifted by one: all {len(classes) - 1} classes have objects but "
                f"the first, '{classes[0]}'",
                f"{key}: give the names in the order of the labels, without a background, or leave "
                "the first out where it is no class of yours (exports of Roboflow have such a one)",
            )
        )
    found += _spelt_alike(classes, train + val, key)
    lacking = np.flatnonzero((val > 0) & (train == 0))
    rare = np.setdiff1d(np.flatnonzero(train < FEW), lacking)
    rare = rare[rare > 0] if shifted else rare
    is_sample = len(classes) >= LONG and images < FEW * len(classes)
    if len(rare) and not is_sample:
        found.append(_rare([f"{classes[k]} {train[k]}" for k in rare.tolist()], len(classes), key))
    if len(lacking):
        found.append(
            Finding(
                f"validation has classes that no training image has: "
                f"{_names([classes[k] for k in lacking.tolist()])}",
                f"{key}: divide the images anew, or leave these classes out",
            )
        )
    return found


def _rare(counted: Sequence[str], classes: int, key: str) -> Finding:
    return Finding(
        f"{len(counted)} of {classes} classes have fewer than {FEW} training objects: "
        f"{_names(counted)}",
        f"{key}: leave them out, or add images of them",
    )


def _spelt_alike(classes: Sequence[str], counts: np.ndarray, key: str) -> list[Finding]:
    """Return which classes differ in capitals or spaces alone."""
    alike: dict[str, list[str]] = {}
    for name, count in zip(classes, counts.tolist(), strict=True):
        if count:
            alike.setdefault("".join(name.split()).casefold(), []).append(f"{name} {count}")
    return [
        Finding(
            f"classes that differ in capitals or spaces alone: {_names(names)}",
            f"{key}: are they one class? Give it one name in the annotation",
        )
        for names in alike.values()
        if len(names) > 1
    ]


def named_otherwise(classes: Sequence[str], records: Iterable[Record], key: str) -> list[Finding]:
    """Return whether most images have the label beside the one that their path names.

    Only images of one label whose folder and file name hold one class's name count.
    """
    numbers = {name.lower(): k for k, name in enumerate(classes)}
    pairs = []
    for record in records:
        words = set(re.split(r"[^a-z]+", "/".join(record.path.lower().split("/")[-2:])))
        named = words & numbers.keys()
        if len(named) == 1 and len(record.labels) == 1:
            pairs.append((numbers[named.pop()], int(record.labels[0])))
    if len(pairs) < NAMED:
        return []
    named, labels = np.array(pairs).T
    beside = max(((labels - named - step) % len(classes) == 0).mean() for step in (1, -1))
    if beside <= 0.5:  # most of them
        return []
    first = int(np.flatnonzero(labels != named)[0])
    example = f"'{classes[named[first]]}' in a path is labelled '{classes[labels[first]]}'"
    return [
        Finding(
            f"the labels look shifted by one in {beside:.0%} of {len(pairs)} images: {example}",
            f"{key}: give the names in the order of the labels",
        )
    ]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" * (len(names) > SHOWN))
