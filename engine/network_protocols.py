"""What has weights or trains them, as protocols: the parts of a network, clipping and fine-tuning.

As those in `engine/protocols.py`, whose modules import no torch.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

from engine.finding import Finding, View
from engine.option import Option
from engine.protocols import Fitted, OutputFields
from engine.structures import Assigned, Objects, Output, Preprocessing, Pretrained

Activation = Literal["softmax", "sigmoid", "linear"]  # linear: the logits are the scores
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


class HeadOptions(Layered, Fitted):
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


class Coder(Protocol):
    """Boxes from the numbers that a head outputs."""

    def decode(self, code: Tensor, slots: Tensor, cells: Tensor) -> Tensor:
        """[.., 4] code, slots and [.., 2] cells -> boxes [.., 4] in pixels of the input."""
        ...
