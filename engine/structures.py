"""The data that passes through the engine: images, objects, a network's outputs and targets.

Letters: B images, A slots, K classes, C logits, M objects, H W pixels.
Boxes are xyxy. Between the loader and the head they are in pixels of the network's input; a
`Record`, a metric and a predictions file hold them in pixels of the original image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.objects import Objects
from engine.record import Meta, Record

BACKGROUND = -1  # a slot with no object in it: counts as a negative
IGNORE = -2  # a slot that is left out of the loss


@dataclass
class Batch:
    """Images, their objects and their sources."""

    images: Tensor  # [B, 3, H, W] uint8 RGB
    objects: Objects
    meta: list[Meta]

    def to(self, device: torch.device | str) -> "Batch":
        """Return a copy with images and objects on `device`."""
        images = self.images.to(device, non_blocking=True)
        return Batch(images, self.objects.to(device), self.meta)

    def pin_memory(self) -> "Batch":
        """Return a copy in pinned memory; torch's loader calls it."""
        return Batch(self.images.pin_memory(), self.objects.pin_memory(), self.meta)


class Sample(NamedTuple):
    """One augmented image with its objects."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    truth: Record  # annotation in pixels of the network's input
    meta: Meta
    scores: np.ndarray | None = None  # [M] float32; None: 1

    @property
    def objects(self) -> Objects:
        """The true objects as a batch of one."""
        return collate([self]).objects


def collate(samples: Sequence[Sample]) -> Batch:
    """Join samples of one size to a batch, whose images are channels-last in memory."""
    images = torch.from_numpy(np.stack([s.image for s in samples]))  # [B, H, W, 3]
    objects = Objects.from_records([s.truth for s in samples], [s.image.shape[:2] for s in samples])
    for row, sample in enumerate(samples):
        if sample.scores is not None:
            objects.scores[objects.batch_index == row] = torch.from_numpy(sample.scores)
    return Batch(images.permute(0, 3, 1, 2), objects, [s.meta for s in samples])


def to_original(objects: Objects, meta: Sequence[Meta]) -> Objects:
    """Map objects from pixels of the network's input to each original image's, and clip them to it.

    Args:
        objects: on the CPU; `batch_index` is the row in `meta`.
        meta: one entry an image.
    """
    full = [np.vstack([m.matrix, (0, 0, 1)]) for m in meta]
    back = torch.as_tensor(np.linalg.inv(np.stack(full))[:, :2]).float()[
        objects.batch_index
    ]  # [M, 2, 3]
    x1, y1, x2, y2 = objects.boxes.unbind(1)
    corners = torch.stack([x1, x2, x2, x1, y1, y1, y2, y2], 1).view(-1, 2, 4)  # [M, xy, 4]
    moved = back[:, :, :2] @ corners + back[:, :, 2:]  # [M, 2, 4]
    size = torch.tensor([m.size[::-1] for m in meta], dtype=torch.float32)[objects.batch_index]
    boxes = torch.cat([moved.amin(2), moved.amax(2)], 1)
    boxes = boxes.clamp(min=0).minimum(size.repeat(1, 2))
    return replace(objects, boxes=boxes, area=None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing that a network was trained with; it is stored with the weights."""

    size: int = 224  # side of the square the network sees, pixels
    resize: int = 256  # of the short side before the centre crop to `size`
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of `colour` in 0..1; ImageNet's
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"  # or bicubic, with antialiasing
    colour: str = "RGB"  # or BGR
    fit: str = "crop"  # of an image into the network's input, see `engine.data.augment.Augment`


class Pretrained(NamedTuple):
    """What came with a backbone's weights; `engine.weights.pretrained.load` returns it."""

    preprocessing: Preprocessing
    unused_tensors: dict[str, Tensor]  # that the backbone has no place for: the head, as a rule
    classes: list[str] | None  # names of the head's outputs, where they are known
    missing: Sequence[str] = ()  # tensors that stayed random
    path: str = ""  # the file's, for messages
    head: Mapping[str, Any] = {}  # arguments that a head for these weights has, where null
    boxes: Mapping[str, Any] = {}  # alike, of one for all of them, the outputs included


class Output(NamedTuple):
    """The raw output of a network for a batch, slot by slot; None where its head outputs none."""

    logits: Tensor = None  # type: ignore[assignment]  # [B, A, C]
    boxes: Tensor = None  # type: ignore[assignment]  # [B, A, 4] code, for the head's coder
    objectness: Tensor = None  # type: ignore[assignment]  # [B, A] logit
    slots: Tensor = None  # type: ignore[assignment]  # [A, 4] the slots' anchor boxes
    cells: Tensor = None  # type: ignore[assignment]  # [A, 2] (width, height) of a slot's grid cell
    coder: Any = None  # the head's, which decodes `boxes`
    size: tuple[int, int] | None = None  # (height, width) of the network's input
    levels: tuple[int, ...] | None = None  # number of slots of each of the head's grids, in order
    regions: Any = None  # proposals for a second stage: detect.two_stage.Regions

    @property
    def numbers(self) -> dict[str, Tensor]:
        """What the network computed for each slot, by name."""
        found = {name: getattr(self, name) for name in ("logits", "boxes", "objectness")}
        return {name: values for name, values in found.items() if values is not None}

    def decoded(self, code: Tensor) -> Tensor:
        """Decode boxes [B, A, 4], predicted or targets, to pixels of the network's input."""
        return self.coder.decode(code, self.slots, self.cells)

    def first(self, images: int) -> "Output":
        """Return the output for the first `images` images of the batch."""
        fields = (None if x is None else x[:images] for x in self[:3])
        regions = None if self.regions is None else self.regions.first(images)
        return Output(*fields, *self[3:-1], regions)  # type: ignore[arg-type]

    def float(self) -> "Output":
        """Return a copy in float32, in which losses and decoding are always computed."""
        regions = None if self.regions is None else self.regions.float()
        fields = (x.float() if isinstance(x, Tensor) else x for x in self[:-1])
        return Output(*fields, regions)  # type: ignore[arg-type]


class Fixed(NamedTuple):
    """Objects of a batch as tensors of a fixed size, best first, as an exported file has them.

    Rows behind an image's last object have the score -1; NaN is an object, which is refused later.
    """

    boxes: Tensor  # [B, N, 4]
    scores: Tensor  # [B, N]
    labels: Tensor  # [B, N] int64

    @property
    def numbers(self) -> dict[str, Tensor]:
        """What was computed for each object, by name."""
        return {"boxes": self.boxes, "scores": self.scores}

    def first(self, images: int) -> "Fixed":
        """Return the objects of the first `images` images of the batch."""
        return Fixed(*(x[:images] for x in self))

    def cpu(self) -> "Fixed":
        """Return the same on the CPU, by one copy."""
        if self.scores.device.type == "cpu":
            return self
        columns = [self.boxes, self.scores[..., None], self.labels[..., None]]  # exact to 2 ** 24
        packed = torch.cat([x.float() for x in columns], -1).cpu()  # [B, N, 6]
        return Fixed(packed[..., :4], packed[..., 4], packed[..., 5].long())

    def objects(self) -> Objects:
        """Return the objects."""
        image, row = (~(self.scores < 0)).nonzero(as_tuple=True)
        boxes, scores, labels = (
            self.boxes[image, row],
            self.scores[image, row],
            self.labels[image, row],
        )
        return Objects(boxes, labels, image, scores)


class Assigned(NamedTuple):
    """The targets of a network's output, slot by slot; None where the head assigns none."""

    # [B, A] int64 in 0..K-1, BACKGROUND or IGNORE; or multi-hot [B, A, K]: 1, 0 or IGNORE
    labels: Tensor
    boxes: Tensor = None  # type: ignore[assignment]  # [B, A, 4] target code, as in Output.boxes
    weight: Tensor = None  # type: ignore[assignment]  # [B, A] of a slot's box term; without boxes,
    # of its class term
    iou: Tensor = None  # type: ignore[assignment]  # [B, A] best IoU of a slot's predicted box
    regions: Any = None  # targets of a second stage: detect.two_stage.SampledRois
