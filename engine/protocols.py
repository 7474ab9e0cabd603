"""The parts a user can add, as protocols: one file with the class, one YAML with its `_target_`.

Constructors take keyword arguments only. Those named under `Given` come from
`engine.builders.parts`, to the constructors that ask for them by name; all others come from the
YAML. Nothing here needs Hydra.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from engine.structures import Assigned, Meta, Objects, Output, Record

Activation = Literal["softmax", "sigmoid", "linear"]  # linear: the logits are the scores
OutputFields = frozenset[str]  # of the fields of Output: "logits", "boxes", "objectness", "regions"


class Backbone(Protocol):
    """Images to feature maps, fine to coarse."""

    channels: Sequence[int]  # of each map
    # Of each map, pixels of the network's input. They may repeat: detectors take the last map of
    # each. 0 is a map of one cell whatever the input's size, which no detector can use.
    strides: Sequence[int]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W], normalised -> one [B, channels[i], h, w] a level, h about H / stride."""
        ...


class Head(Protocol):
    """Feature maps to slots. Given: channels, strides, num_classes, activation.

    Where arguments decide what is said, a static method `output_fields` takes those and returns it.
    A head with `single` True has one slot an image.
    """

    outputs: ClassVar[OutputFields]

    def __call__(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """`image_size` is (height, width) of the network's input."""
        ...

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """Which slot answers for which object; called without gradient, batched, without a sync."""
        ...

    def decode(self, output: Output) -> Objects:
        """Slots to objects in pixels of the network's input, suppression included."""
        ...


class Loss(Protocol):
    """Named, weighted terms; the loop only sums. It fits when requires <= head.says <= trains.

    One with `single` True fits heads with one slot an image alone.
    """

    activation: Activation  # softmax over many slots makes the head add a background logit, last
    requires: OutputFields
    trains: OutputFields

    def __call__(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Float32 in, scalars out; finite where no slot is positive."""
        ...


class Ranked(NamedTuple):
    """What a network says of one class, in any order."""

    scores: np.ndarray  # [M] 0..1
    right: np.ndarray  # [M] bool, whether each finds something
    total: int  # how many there are to be found


class Metric(Protocol):
    """Accumulates images, in pixels of the originals, on the CPU. Given: classes.

    It may also have `images() -> {name: [H, W, 3] uint8}`; evaluation writes them. The same goes
    for `ranked() -> {class: Ranked}`, from which come the curves of precision and recall. One with
    `many_labels` True takes images of any number of labels.
    """

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
        """All numbers over what was seen since `reset`; 0.0 where nothing was predicted."""
        ...

    def reset(self) -> None:
        """Forget everything."""
        ...


class Dataset(Protocol):
    """Images and the truth about them, one split. Given: split.

    `report` holds one entry a defect found while reading (file, row, reason, action), for
    data_report.json and the console; `notes` says what else a user should know. A constructor
    raises UserError where it cannot go on. One with `stored` True has images in files, at
    `record(index).path`: the loader reads those itself, decoded no larger than it needs.
    """

    classes: list[str]
    report: list[dict[str, Any]]
    notes: list[str]

    def __len__(self) -> int: ...

    def record(self, index: int) -> Record:
        """The truth about one image; cheap, reads no file."""
        ...

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB; raises UserError naming the file where it cannot be read."""
        ...
