"""The objects of a batch of images, true or predicted.

Letters: M objects, K classes. Boxes are xyxy, in pixels of the network's input or of the original
image; `engine.structures` says where.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from engine.errors import UserError
from engine.record import Meta, ObjectTable, Record, columns, rows_by_image


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

    @property
    def has_shares(self) -> bool:
        """Whether scores of true objects are shares of mixed images; False where unknown.

        It is read on the CPU; of a copy on another device, its type tells, without a sync.
        """
        return self.scores.device.type == "cpu" and bool((self.scores != 1).any())

    def to(self, device: torch.device | str) -> "Objects":
        """Return a copy on `device`; a copy to another device than the CPU is asynchronous."""
        # an asynchronous copy to the CPU could be read before it is complete
        non_blocking = torch.device(device).type != "cpu"
        copy = self.map(lambda x: x.to(device, non_blocking=non_blocking))
        if non_blocking and self.has_shares:
            return SharedObjects(*(getattr(copy, f.name) for f in fields(copy)))
        return copy

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

    def split(self, images: int) -> list[Self]:
        """Return the objects of each of the batch's images, as `of` does of one."""
        if len(self) and (self.batch_index.diff() < 0).any():
            self = self.select(self.batch_index.argsort(stable=True))  # noqa: PLW0642
        counts = self.batch_index.bincount(minlength=images).tolist()
        columns = [getattr(self, f.name).split(counts) for f in fields(self)]
        parts = (type(self)(*column) for column in zip(*columns, strict=True))
        return [replace(x, batch_index=torch.zeros_like(x.batch_index)) for x in parts]

    def refuse_nan(self, meta: Sequence[Meta]) -> None:
        """Raise UserError naming the first image with a NaN or infinite box or score."""
        finite = self.boxes.isfinite().all(1) & self.scores.isfinite()  # [M]
        if finite.all():
            return
        bad = int((~finite).nonzero()[0])
        image = meta[int(self.batch_index[bad])]
        raise UserError(
            f"{image.path or image.id}: got box {self.boxes[bad].tolist()} with score "
            f"{float(self.scores[bad])}, expected finite numbers: if these are predictions, "
            "training has diverged (lower optimizer.lr); if annotations, correct the file"
        )

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
        boxes, labels, rows, ignore, area = map(torch.from_numpy, columns(records, sizes))
        return cls(boxes, labels, rows, ignore=ignore, area=area)

    @classmethod
    def by_image(cls, table: ObjectTable) -> dict[int, Self]:
        """Return the objects of each image that has some, by its row in the dataset, in float32."""
        boxes = table.corners
        return {
            image: cls(
                torch.from_numpy(boxes[rows].astype(np.float32)),
                torch.from_numpy(table.labels[rows]),
                scores=torch.from_numpy(table.scores[rows].astype(np.float32)),
                ignore=torch.from_numpy(table.ignore[rows]),
                area=torch.from_numpy(table.area[rows].astype(np.float32)),
            )
            for image, rows in rows_by_image(table.image).items()
        }


class SharedObjects(Objects):
    """Objects on a device, whose scores are shares of mixed images."""

    has_shares = True  # type: ignore[assignment]
