"""What a metric has to say of its predictions besides its numbers, ready to be shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

RIGHT, WRONG_CLASS, BADLY_PLACED, INVENTED, MISSED = KINDS = (
    "right", "wrong class", "badly placed", "invented", "missed",
)  # fmt: skip


THRESHOLDS = np.arange(51) / 50  # .7 is 0.7, which linspace misses by a last place
DRAWN = 12  # classes in a chart, those with the most objects
DRAWS = 1000  # of a bootstrap


class Place(int):
    """The place of an image among those evaluated, which the page names by its file."""


class Mark(NamedTuple):
    """One object of a shown image."""

    kind: str  # one of KINDS
    label: str  # name of the class: of the prediction, or of the object that is missed
    text: str  # stands at the box
    why: str  # is shown with it where one points at it
    box: Sequence[float]  # xyxy, pixels of the original image
    truth: bool = False  # an annotated object, which is drawn dashed


class Difference(NamedTuple):
    """How much a number of two runs differs, with a 95 % interval over the images."""

    name: str
    value: float
    low: float
    high: float
    source: str  # who computed it


class Table(NamedTuple):
    """Rows under names of columns; numbers stay numbers, so that they can be sorted."""

    title: str
    note: str  # what it shows and where it comes from
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Chart(NamedTuple):
    """Lines, bars or points over one axis; `lines` has x [P] and y [P] of each name."""

    title: str
    note: str
    x: str
    y: str
    lines: Mapping[str, tuple[Any, Any]]
    kind: str = "line"  # or bar, points
    diagonal: bool = False  # draw y = x
    mark: float | None = None  # a vertical line at this x
    ticks: Sequence[str] = ()  # names of x = 0, 1, ...
    log: bool = False  # x by its logarithm


@dataclass
class Live:
    """Counts at T thresholds of the score, from which the page computes for its slider.

    Args:
        scores: [T] thresholds, rising.
        names: K classes.
        right: [T, K] predictions of each class that are right, of at least that score.
        wrong: [T, K] those that are wrong.
        total: [K] true objects.
        confusion: for each threshold its cells that are not zero: row, column, count.
        rows: names of the confusion's rows: the truth.
        columns: names of its columns: the predictions.
        best: the threshold with the highest F1 of all classes together.
        unit: what is counted: objects, images.
    """

    scores: Sequence[float]
    names: Sequence[str]
    right: np.ndarray
    wrong: np.ndarray
    total: np.ndarray
    confusion: list[list[tuple[int, int, int]]]
    rows: Sequence[str]
    columns: Sequence[str]
    best: float
    unit: str = "objects"

    def f1(self) -> np.ndarray:
        """[T, K] 2 right / (predicted + total), 0 where there is neither."""
        return 2 * self.right / (self.right + self.wrong + self.total).clip(1)

    def best_of_each(self) -> np.ndarray:
        """Return [K] the place of each class's highest F1, the highest threshold of ties."""
        return last_argmax(self.f1())


def last_argmax(values: np.ndarray) -> np.ndarray:
    """Return where [T, ...] is highest along T, the last of ties."""
    return len(values) - 1 - values[::-1].argmax(0)


def best_threshold(
    scores: np.ndarray, right: np.ndarray, wrong: np.ndarray, total: np.ndarray
) -> float:
    """Return the threshold of the highest F1 over all classes together, the highest of ties.

    0 where nothing is right at any.
    """
    if not right.any():
        return float(scores[0])
    right, predicted = right.sum(1), (right + wrong).sum(1)
    f1 = 2 * right / (predicted + total.sum()).clip(1)
    return float(scores[last_argmax(f1)])


def counts_at(
    thresholds: np.ndarray, scores: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
    """Return [T, K]: how many of the scores [M] with labels [M] reach each threshold."""
    last = np.searchsorted(thresholds, scores, "right") - 1  # the highest threshold it reaches
    counts = np.zeros((len(thresholds), classes), np.int64)
    np.add.at(counts, (last, labels), 1)
    return counts[::-1].cumsum(0)[::-1]


@dataclass
class Diagnosis:
    """What is right and wrong in the predictions of N images.

    Args:
        advice: in a sentence, what to mend first.
        live: for the slider; None where there is none.
        panels: tables and charts, in their order.
        badness: [N] how bad each image is, for the choice of those shown; 0: nothing is wrong.
        suspects: likely errors of the annotation, best first; `image` is a row in the dataset.
        marks: from a row in the dataset to the objects of its image.
        reason: from a row in the dataset to a line about its image.
    """

    advice: str
    live: Live | None
    panels: list[Table | Chart]
    badness: np.ndarray
    suspects: list[dict[str, Any]] = field(default_factory=list)
    marks: Callable[[int], list[Mark]] = lambda row: []
    reason: Callable[[int], str] = lambda row: ""
