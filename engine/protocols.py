"""The parts a user can add, as protocols: one file with the class, one YAML with its `_target_`.

Constructors take keyword arguments only. Those named under `Given` are passed by
`engine.builders.parts` to the constructors that name them; all others come from the YAML.

A protocol lists what its part must have; `engine.builders.conformance` checks it when the part is
bound. The `...Options` class after it lists what the part may have besides, with the default; the
engine reads these as `MetricOptions.ranked.of(metric)` and in no other way. No part has to inherit.

Backbone, head, loss and what trains them are in `engine/network_protocols.py`; no import of torch
here, so that commands that run no network do not wait for it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from engine.finding import Finding
from engine.option import Option
from engine.record import Matched, Meta, ObjectTable, Ranked, Record

if TYPE_CHECKING:
    from engine.objects import Objects

OutputFields = frozenset[str]  # a subset of FIELDS
FIELDS = frozenset({"logits", "boxes", "objectness", "regions"})  # of `Output`, that a loss trains


class Fitted:
    """Optional for a part with keys that may be `auto`, which is a head."""

    # By key that may be `auto`: of a View of training boxes, the backbone's strides and the head's
    # keys, values of those that are and how well they fit.
    fits: Option[Mapping[str, Callable[..., tuple[dict[str, Any], str]]]] = Option({})


class Metric(Protocol):
    """Accumulates images, in pixels of the originals, on the CPU. Given: classes."""

    primary: str  # the key of `compute` that a sweep and the best checkpoint go by; more is better
    requires: ClassVar[OutputFields]

    @property
    def protocol(self) -> str:
        """The rules in one line, printed beside every number."""
        ...

    def update(self, predicted: "Objects", true: "Objects", meta: Sequence[Meta]) -> None:
        """`meta[i]` describes image i of both."""
        ...

    def compute(self) -> dict[str, float]:
        """All numbers over the images since `reset`; 0.0 where nothing was predicted."""
        ...

    def reset(self) -> None:
        """Forget all images."""
        ...


class MetricOptions:
    """Optional for a metric."""

    many_labels: Option[bool] = Option(False)  # it takes images of any number of labels
    images: Option[Callable[[], dict[str, np.ndarray]]] = Option(dict)  # by name, [H, W, 3] uint8
    # A file's predicted and true objects, its images; in place of `update`, so nothing is rounded.
    update_table: Option[Callable[[ObjectTable, ObjectTable, int], None] | None] = Option(None)
    ranked: Option[Callable[[], dict[str, Ranked]]] = Option(dict)  # by class, for its curve
    # Of each class what became of every prediction since `reset`, for eval.py's explain=true.
    explain: Option[Callable[[], list[Matched]] | None] = Option(None)
    # For report.html: of all predicted and true objects, the images, `compute()`: a Diagnosis.
    diagnose: Option[Callable[..., Any] | None] = Option(None)
    # Of two runs' predicted objects, the true ones, images: Differences, second minus first.
    differences: Option[Callable[..., Any] | None] = Option(None)
    findings: Option[Callable[[], list[Finding]]] = Option(list)  # of all images since `reset`


class Dataset(Protocol):
    """Images and their truth, one split. Given: split. Its constructor may raise UserError."""

    classes: list[str]
    report: list[dict[str, Any]]  # a row a defect found while reading: `engine.record.defect`
    notes: list[str]  # what else the console prints

    def __len__(self) -> int: ...

    def record(self, index: int) -> Record:
        """The truth about one image; cheap, reads no file."""
        ...

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB; raises UserError naming the file where it cannot be read."""
        ...


class DatasetOptions:
    """Optional for a dataset."""

    stored: Option[bool] = Option(False)  # images are the files `record(index).path`, or of `read`
    read: Option[Callable[[int], bytes] | None] = Option(None)  # a file's bytes; threads call it
    requests: Option[int] = Option(0)  # images to open at a time, ahead; 0: opening takes no wait
    drawn: Option[str] = Option("")  # what images are that no file holds, for the console
    # The id of each class in a predictions file; None counts from 1. To train on, whole numbers.
    categories: Option[Sequence[int | float | str] | None] = Option(None)
    # The objects of all images as their file states them, to score a predictions file.
    table: Option[Callable[[], ObjectTable] | None] = Option(None)
    on_error: Option[Literal["fail", "skip"]] = Option("fail")  # skip: leave unreadable images out


class Schedule(Protocol):
    """The learning rate over a run."""

    def __call__(self, done: float) -> float:
        """The share of the run that is done, 0..1 -> a factor of `optimizer.lr`."""
        ...


class ScheduleOptions:
    """Optional for a schedule."""

    # From the number of evaluations since the best to a factor of all later rates.
    plateau_factor: Option[Callable[[int], float]] = Option(lambda stale: 1.0)


class Augment(Protocol):
    """Random views and colours of images; best a subclass of `engine.data.augment.Augment`."""

    fit: str
    interpolation: str
    min_visible: float
    centre: bool
    mosaic: float
    mixup: float
    mixup_alpha: float
    cutmix: float
    cutmix_alpha: float
    check_boxes: Callable[[bool], None]
    full_viewport: Callable[..., Any]  # `engine.data.viewport.Viewport`, as the next
    random_viewport: Callable[..., Any]
    random_colour: Callable[..., np.ndarray]
    paint: Callable[..., np.ndarray]


class Tracker(Protocol):
    """Keeps a run's numbers outside its folder. Rank 0 alone calls it; an error ends it, no run."""

    def start(self, config: dict[str, Any], folder: Path, name: str, last: str | None) -> Any:
        """Begin a run, or go on with that of the id `last`; its id as text, None for none."""

    def scalars(self, values: dict[str, float], step: int) -> None:
        """The row of an epoch, which has "epoch", or numbers of a step, each named "step/..."."""

    def file(self, path: Path) -> None:
        """A file of the run folder, at the run's end."""

    def finish(self, results: dict[str, float] | None) -> None:
        """The best epoch's numbers, each named "best/..."; None of a run that was stopped."""
