"""The parts a user can add, as protocols: one file with the class, one YAML with its `_target_`.

Constructors take keyword arguments only. Those named under `Given` are passed by
`engine.builders.parts` to the constructors that name them; all others come from the YAML.

A protocol lists what its part must have; `engine.builders.conformance` checks it when the part is
bound. The `...Options` class after it lists what the part may have besides, with the default; the
engine reads these as `LossOptions.single.of(loss)` and in no other way. No part has to inherit.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from torch import Tensor, nn

from engine.finding import Finding, View
from engine.option import Option
from engine.record import Matched, ObjectTable, Ranked
from engine.structures import Assigned, Meta, Objects, Output, Preprocessing, Pretrained, Record

Activation = Literal["softmax", "sigmoid", "linear"]  # linear: the logits are the scores
OutputFields = frozenset[str]  # a subset of FIELDS
FIELDS = frozenset({"logits", "boxes", "objectness", "regions"})  # of `Output`, that a loss trains
Group = Sequence[nn.Module | nn.Parameter]  # layers that are frozen together


class Layered:
    """Optional for what has weights: backbones and heads."""

    # The layers from shallow to deep, for finetune and trainer.shard; None: all are one group.
    groups: Option[Callable[[], Sequence[Group]] | None] = Option(None)


class Backbone(Protocol):
    """Images to feature maps, fine to coarse. A `torch.nn.Module`."""

    channels: Sequence[int]  # of each map
    # Of each map, pixels of the network's input. They may repeat: detectors take the last map of
    # each. 0 is a map of one cell whatever the input's size, which no detector can use.
    strides: Sequence[int]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W], normalised -> one [B, channels[i], h, w] a level, h about H / stride."""
        ...


class BackboneOptions(Layered):
    """Optional for a backbone."""

    pretrained: Option[Pretrained | None] = Option(None)  # set by the constructor
    extra_prefixes: Option[Sequence[str]] = Option(())  # of parameters that weights may lack
    # Of images for weights whose file does not say; size and resize are the network's own.
    default_preprocessing: Option[Preprocessing] = Option(Preprocessing())


class Head(Protocol):
    """Feature maps to slots. A `torch.nn.Module`.

    Given: channels, strides, num_classes, activation.
    """

    outputs: ClassVar[OutputFields]  # with `output_fields` the object alone needs it

    def __call__(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """`image_size` is (height, width) of the network's input."""
        ...

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """The object that each slot trains on; called without gradient, batched, without a sync."""
        ...

    def decode(self, output: Output) -> Objects:
        """Slots to objects in pixels of the network's input, suppression included."""
        ...


class HeadOptions(Layered):
    """Optional for a head."""

    single: Option[bool] = Option(False)  # it has one slot an image
    protocol: Option[str] = Option("")  # threshold, suppression and limits of `decode`, one line
    # From an `Output` to boxes [B, A, 4] and scores [B, A, K] of all slots, for engine.export; then
    # `postprocess` makes objects of them: called, and by its `fixed` in a graph.
    candidates: Option[Callable[[Output], tuple[Tensor, Tensor]] | None] = Option(None)
    # A static method: from the arguments of the constructor that it names to `outputs`.
    output_fields: Option[Callable[..., OutputFields] | None] = Option(None)
    attention: Option[Tensor | None] = Option(None)  # [B, h, w] in 0..1 of the last batch, drawn
    findings: Option[Callable[[View], list[Finding]] | None] = Option(None)  # before training
    score_key: Option[str] = Option("")  # that holds the least score of a prediction, if one does
    # By key that may be `auto`: of a View of training boxes, the backbone's strides and the head's
    # keys, values of those that are and how well they fit.
    fits: Option[Mapping[str, Callable[..., tuple[dict[str, Any], str]]]] = Option({})
    # Static, of a View and the most pixels a side: (height, width) of image_size=auto.
    fit_size: Option[Callable[[View, int], tuple[int, int]] | None] = Option(None)


class Loss(Protocol):
    """Named, weighted terms, which the loop sums. It fits if requires <= head.outputs <= trains."""

    activation: Activation  # softmax over many slots makes the head add a background logit, last
    requires: OutputFields
    trains: OutputFields

    def __call__(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Float32 in, scalars out; finite where no slot is positive."""
        ...


class LossOptions:
    """Optional for a loss."""

    single: Option[bool] = Option(False)  # it fits only heads with one slot an image
    takes_shares: Option[bool] = Option(False)  # of classes, which mixup and cutmix make


class Metric(Protocol):
    """Accumulates images, in pixels of the originals, on the CPU. Given: classes."""

    primary: str  # the key of `compute` that a sweep and the best checkpoint go by; more is better
    requires: ClassVar[OutputFields]

    @property
    def protocol(self) -> str:
        """The rules in one line, printed beside every number."""
        ...

    def update(self, predicted: Objects, true: Objects, meta: Sequence[Meta]) -> None:
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

    stored: Option[bool] = Option(False)  # images are the files `record(index).path`
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


class Clip(Protocol):
    """Clips gradients in place."""

    def __call__(self, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """The global norm before, and whether anything was clipped, on the device."""
        ...


class ClipOptions:
    """Optional for clipping."""

    in_shards: Option[bool] = Option(True)  # it works under trainer.shard, read of the class


class Finetune(Protocol):
    """Which parameters train, and how fast."""

    def param_groups(self, network: Any) -> Sequence[tuple[float, Sequence[nn.Parameter]]]:
        """All parameters that train in some epoch, by the factor of their learning rate."""
        ...

    def __call__(self, network: Any, epoch: int) -> int:
        """Freeze what does not train in this epoch, from 0; the number of parameters that do."""
        ...


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


class Coder(Protocol):
    """Boxes from the numbers that a head outputs."""

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """[.., 4] code, slots and [.., 2] cells -> boxes [.., 4] in pixels of the input."""
        ...


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
