"""Darknet's detectors as data, and what of one stands behind a backbone's numbers in a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from engine.console import info
from engine.errors import UserError
from engine.structures import Preprocessing

NORM = ("bias", "weight", "running_mean", "running_var")  # as a file has them
BOX = 5  # outputs of an anchor beside its classes: four of the box, and objectness
Order = Sequence[tuple[str, tuple[int, ...]]]  # names and shapes of tensors, as they follow


class Layer(NamedTuple):
    """A convolution of a detector, by the name of its module in our head."""

    name: str
    channels: int
    width: int | None  # without: the outputs of a scale, which have a bias and no normalisation
    kernel: int = 1

    def order(self, outputs: int) -> Order:
        """Its tensors as a file has them; `outputs` is the width of a layer of outputs."""
        shape = (self.width or outputs, self.channels, self.kernel, self.kernel)
        if self.width is None:
            return [(f"{self.name}.bias", shape[:1]), (f"{self.name}.weight", shape)]
        norm = [(f"{self.name}.1.{key}", shape[:1]) for key in NORM]
        return [*norm, (f"{self.name}.0.weight", shape)]

    def count(self, outputs: int = 0) -> int:
        """Its numbers."""
        return sum(prod(shape) for _, shape in self.order(outputs))


class Published(NamedTuple):
    """A published detector: its classes, and arguments that our head has for it alone."""

    classes: Sequence[str]
    boxes: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Detector:
    """The detector that Darknet has on a backbone."""

    layers: Callable[[Sequence[int]], Sequence[Layer]]  # behind maps of such channels, in order
    anchors: int  # a cell, of each layer of outputs
    preprocessing: Preprocessing
    # arguments with which our head computes what Darknet's does, and decodes boxes as it does
    head: Mapping[str, Any]
    boxes: Mapping[str, Any]
    published: Mapping[int, Published]  # by the number of classes; the first is shown in messages
    files: Mapping[int, str] = field(default_factory=dict)  # numbers of known files -> their names


class Behind:
    """What may stand behind a backbone's numbers in a file.

    Args:
        path: the file's, for messages.
        numbers: of the whole file.
        backbone: numbers of these.
        channels: of the backbone's maps.
        detector: of Darknet's on this backbone.
    """

    def __init__(
        self,
        path: Path,
        numbers: int,
        backbone: int,
        channels: Sequence[int],
        detector: Detector | None,
    ) -> None:
        self.path, self.numbers, self.backbone, self.detector = path, numbers, backbone, detector
        self.layers = detector.layers(channels) if detector else ()
        self.fixed = sum(layer.count() for layer in self.layers)
        self.each = sum(layer.count(1) for layer in self.layers if layer.width is None)

    def outputs(self, rest: int) -> int:
        """The outputs of each scale with which a detector has so many numbers; 0 without one."""
        outputs, odd = divmod(rest - self.fixed, self.each) if self.each else (0, 0)
        return 0 if odd else max(outputs, 0)

    def order(self, outputs: int) -> Order:
        """The detector's tensors in the file's order."""
        return [entry for layer in self.layers for entry in layer.order(outputs)]

    def classes(self, outputs: int) -> Published:
        """What is known of a detector with so many outputs; without classes where none fit."""
        assert self.detector is not None
        number, odd = divmod(outputs, self.detector.anchors)
        number = 0 if odd else max(number - BOX, 0)
        unknown = Published([f"class {i}" for i in range(number)])
        found = self.detector.published.get(number, unknown)
        what = f"{number} classes" if number else f"{outputs} outputs a cell"
        info(f"weights: {self.path}: a detector of {what}")
        return found

    def check_known(self) -> None:
        """Refuse a published file of another network than the detector on this backbone."""
        own = [self.backbone + self._of(classes) for classes in self._published]
        if self.detector and self.numbers in self.detector.files and self.numbers not in own:
            raise UserError(f"{self.path}: {self.problem()}")

    def check_left_over(self, rest: int) -> None:
        """Refuse what a detector that was cut short leaves over.

        Files that Darknet wrote of its first layers alone end where a layer does; larger ones than
        the published detector may have other layers on the same backbone.
        """
        if self.detector is None:
            return
        inner = takewhile(lambda layer: layer.width is not None, self.layers)
        whole_layers = rest in accumulate(layer.count() for layer in inner)
        if not whole_layers and rest < self._of(next(iter(self._published))):
            raise UserError(f"{self.path}: {self.problem()}")

    def problem(self) -> str:
        """Numbers that the file has, and that were expected."""
        expected = f"{self.backbone:,} of this backbone"
        known = ""
        if self.detector:
            classes = next(iter(self._published))
            whole, step = self._of(classes), self.each * self.detector.anchors
            expected += (
                f" alone, or {self.backbone + whole:,} with a detector of {classes} classes "
                f"({step:,} a class)"
            )
            known = self.detector.files.get(self.numbers, "")
        return (
            f"{self.numbers:,} numbers{known and f', those of {known}'}; expected {expected}: it "
            "is cut short, or of another network"
        )

    @property
    def _published(self) -> Mapping[int, Published]:
        return self.detector.published if self.detector else {}

    def _of(self, classes: int) -> int:
        """Numbers of the detector."""
        assert self.detector is not None
        return self.fixed + self.each * self.detector.anchors * (BOX + classes)
