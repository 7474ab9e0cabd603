"""The data that passes through the engine: images, objects, a network's outputs and targets.

Letters: B images, A slots, K classes, C logits, M objects, H W pixels.
Boxes are xyxy. Between the loader and the head they are in pixels of the network's input; a
`Record`, a metric and a predictions file hold them in pixels of the original image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from engine.errors import UserError
from engine.record import Record, is_outside

BACKGROUND = -1  # a slot with no object in it: counts as a negative
IGNORE = -2  # a slot that is left out of the loss


@dataclass
class Objects:
    """The objects of a batch, true or predicted, in flat tensors over all images.

    Defaults: all of one image, score 1, not ignored, the area of the box. The labels of a network
    that predicts boxes alone are BACKGROUND.
    """

    boxes: Tensor  # [M, 4] float32
    labels: Tensor  # [M] int64 in 0..K-1
    batch_index: Tensor = None  # type: ignore[assignment]  # [M] int64, row in the batch
    scores: Tensor = None  # type: ignore[assignment]  # [M] float32; of truth 1, or mixup's share
    ignore: Tensor = None  # type: ignore[assignment]  # [M] bool
    area: Tensor = None  # type: ignore[assignment]  # [M] float32, square pixels

    def __post_init__(self) -> None:
        if self.batch_index is None:
            self.batch_index = torch.zeros_like(self.labels)
        if self.scores is None:
            self.scores = torch.ones_like(self.labels, dtype=torch.float32)
        if self.ignore is None:
            self.ignore = torch.zeros_like(self.labels, dtype=torch.bool)
        if self.area is None:
            size = self.boxes[:, 2:] - self.boxes[:, :2]
            self.area = size[:, 0] * size[:, 1]

    def __len__(self) -> int:
        return len(self.labels)

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the objects with `change` applied to every field."""
        return type(self)(*(change(getattr(self, f.name)) for f in fields(self)))

    def to(self, device: torch.device | str) -> Self:
        """Return a copy on `device`; a copy to another device than the CPU is asynchronous."""
        # an asynchronous copy to the CPU could be read before it is complete
        non_blocking = torch.device(device).type != "cpu"
        return self.map(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return a copy in pinned memory."""
        return self.map(Tensor.pin_memory)

    def select(self, rows: Tensor) -> Self:
        """Return the objects at `rows`, a mask or indices."""
        return self.map(lambda x: x[rows])

    def of(self, image: int) -> Self:
        """Return the objects of the image with this batch index, as a batch of one."""
        objects = self.select(self.batch_index == image)
        return replace(objects, batch_index=torch.zeros_like(objects.batch_index))

    @classmethod
    def empty(cls) -> Self:
        """Return a batch without objects."""
        return cls(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Join single images to a batch: part i becomes image i."""
        if not parts:
            return cls.empty()
        rows = [torch.full_like(part.batch_index, i) for i, part in enumerate(parts)]
        parts = [replace(part, batch_index=row) for part, row in zip(parts, rows, strict=True)]
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    @classmethod
    def from_record(cls, record: Record, size: tuple[int, int]) -> Self:
        """Return the objects of one image of `size` (height, width) as a batch of one."""
        return cls.from_records([record], [size])

    @classmethod
    def from_records(cls, records: Sequence[Record], sizes: Sequence[tuple[int, int]]) -> Self:
        """Return the objects of images of these (height, width) as a batch, in order.

        Objects outside their image are marked `ignore`.
        """
        columns = zip(*map(_columns, records, sizes), strict=True)
        boxes, labels, ignore, area = map(np.concatenate, columns)
        rows = np.repeat(np.arange(len(records)), [len(r.labels) for r in records])
        has_boxes = np.array([r.boxes is not None for r in records])[rows]
        ignore |= is_outside(boxes, np.array(sizes)[rows]) & has_boxes
        boxes, labels, rows, ignore, area = map(
            torch.from_numpy, (boxes, labels, rows, ignore, area)
        )
        return cls(boxes, labels, rows, ignore=ignore, area=area)


def _columns(record: Record, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Return boxes, labels, ignore and area of one image; missing ones get their defaults."""
    count, boxes, area = len(record.labels), record.boxes, record.area
    if boxes is None:
        boxes = np.tile(np.array([0, 0, size[1], size[0]], np.float32), (count, 1))
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    if area is None:
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    ignore = np.zeros(count, bool) if record.ignore is None else record.ignore
    return boxes, np.asarray(record.labels, np.int64), ignore, np.asarray(area, np.float32)


class Meta(NamedTuple):
    """The source of an image of a batch, and the map from its pixels to the network's input."""

    index: int  # row in the dataset
    id: str | int
    path: str
    size: tuple[int, int]  # (height, width) of the original image, upright
    matrix: np.ndarray  # [2, 3] affine map, original pixels -> network input
    turn: int = 1  # EXIF orientation of the annotation's pixels, see `engine.data.upright`

    @classmethod
    def of(cls, index: int, record: Record) -> Self:
        """The source of an image that is not opened; its size is the declared one, else (0, 0)."""
        return cls(index, record.id, record.path, record.size or (0, 0), np.eye(2, 3))


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


def refuse_nan(objects: Objects, meta: Sequence[Meta]) -> None:
    """Raise UserError naming the first image with a NaN or infinite box or score."""
    finite = objects.boxes.isfinite().all(1) & objects.scores.isfinite()  # [M]
    if not finite.all():
        bad = int((~finite).nonzero()[0])
        image = meta[int(objects.batch_index[bad])]
        raise UserError(
            f"{image.path or image.id}: got box {objects.boxes[bad].tolist()} with score "
            f"{float(objects.scores[bad])}, expected finite numbers: if these are predictions, "
            "training has diverged (lower optimizer.lr); if annotations, correct the file"
        )


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


class Assigned(NamedTuple):
    """The targets of a network's output, slot by slot; None where the head assigns none."""

    # [B, A] int64 in 0..K-1, BACKGROUND or IGNORE; or multi-hot [B, A, K]: 1, 0 or IGNORE
    labels: Tensor
    boxes: Tensor = None  # type: ignore[assignment]  # [B, A, 4] target code, as in Output.boxes
    weight: Tensor = None  # type: ignore[assignment]  # [B, A] of a slot's box term; without boxes,
    # of its class term
    iou: Tensor = None  # type: ignore[assignment]  # [B, A] best IoU of a slot's predicted box
    regions: Any = None  # targets of a second stage: detect.two_stage.SampledRois
