"""What YOLOv3's heads share: anchors of several maps with objectness, coarse to fine."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from detect.anchors import grid_anchors, last_map_per_stride
from detect.coder import YOLOCoder
from detect.findings import BoxFindings
from detect.fit import anchors as fit_anchors
from detect.heads.yolo_slots import assign_best_anchor, class_scores, conv, objectness_bias
from detect.postprocess import Postprocess
from detect.slot_cache import SlotCache, Slots
from engine.config.ranges import Range
from engine.errors import UserError
from engine.finding import View
from engine.structures import Assigned, Objects, Output

Pixels = Annotated[float, Range(0, 10_000, "(]")]


class YOLOScales(BoxFindings, nn.Module):
    """Box, objectness and class of every anchor of several maps.

    A subclass makes `predictors`, and `maps` of the backbone's features.

    Args:
        name: the subclass's in configs/head, for messages.
        scales: the strides of the maps, fine to coarse.
        anchors: (width, height) in pixels, small to large: as many for each map, fine to coarse.
        anchors_at: the side of the input in whose pixels they are, with which they scale; None:
            pixels of any input, as in Darknet.
        ignore: a slot whose predicted box has an IoU above this with an object is no negative.
    """

    outputs = frozenset({"logits", "boxes", "objectness"})
    anchor_key = "head.anchors"
    sizes: Tensor

    def __init__(
        self,
        *,
        name: str,
        scales: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        activation: str,
        anchors: Sequence[tuple[float, float]],
        anchors_at: int | None,
        ignore: float,
        postprocess: Postprocess | None,
    ) -> None:
        super().__init__()
        if missing := set(scales) - set(strides):
            wanted = f"{', '.join(map(str, scales[:-1]))} and {scales[-1]}"
            raise UserError(
                f"head {name} needs maps of stride {wanted}; {sorted(missing)} are missing: pick "
                "another backbone="
            )
        count = len(scales)
        if not anchors or len(anchors) % count or any(len(sides) != 2 for sides in anchors):
            words = {2: "two", 3: "three"}[count]
            raise UserError(
                f"head.anchors={anchors}: expected [width, height] of {words} anchors or a "
                f"multiple, in pixels of an input{f' of {anchors_at}' if anchors_at else ''}"
            )
        self.activation, self.ignore = activation, ignore
        self.coder, self.postprocess = YOLOCoder(), postprocess or Postprocess()
        self.protocol, self.slot_cache = self.postprocess.protocol, SlotCache()
        self.fixed_anchors = anchors_at is None
        sizes = torch.tensor(anchors, dtype=torch.float32).view(count, -1, 2)  # [scales, n, 2]
        self.register_buffer("sizes", sizes / (anchors_at or 1), persistent=False)
        self.levels = [i for i in last_map_per_stride(strides) if strides[i] in scales]
        self.num_classes = num_classes

    def predictor(self, channels: int, width: int, prior: float) -> nn.Sequential:
        """A 3x3 convolution and the outputs of each cell; objectness starts at `prior`."""
        anchors, outputs = self.sizes.shape[1], 5 + self.num_classes
        last = nn.Conv2d(width, anchors * outputs, 1)
        nn.init.normal_(last.weight, std=0.01)
        bias = torch.zeros(anchors, outputs)
        bias[:, 4] = objectness_bias(prior, self.activation)
        last.bias = nn.Parameter(bias.flatten())
        return nn.Sequential(conv(channels, width, 3), last)

    def maps(self, features: list[Tensor]) -> list[Tensor]:
        """The outputs [B, n * (5 + K), h, w] of each map, the coarsest first."""
        raise NotImplementedError

    def forward(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """Slots are anchors, those of the coarsest map first."""
        outputs, grids = [], []
        for found in self.maps(features):
            y = found.permute(0, 2, 3, 1)  # [B, h, w, n * (5 + K)]
            outputs.append(y.reshape(y.shape[0], -1, 5 + self.num_classes))
            grids.append((found.shape[2], found.shape[3]))
        y = torch.cat(outputs, 1)  # [B, A, 5 + K]
        slots, cells = self.slot_cache(
            y, (*grids, image_size), partial(self._slots, grids, image_size)
        )
        return Output(y[..., 5:], y[..., :4], y[..., 4], slots, cells, self.coder, image_size)

    def _slots(self, grids: list[tuple[int, int]], image_size: tuple[int, int]) -> Slots:
        sizes = self.sizes.cpu().flip(0)  # the coarsest map first
        if not self.fixed_anchors:
            sizes = sizes * torch.tensor(image_size[::-1])
        made = [grid_anchors(g, s, image_size) for g, s in zip(grids, sizes, strict=True)]
        slots, cells = (torch.cat(parts) for parts in zip(*made, strict=True))
        return slots, cells

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """See `detect.heads.yolo_slots.assign_best_anchor`."""
        return assign_best_anchor(output, objects, self.ignore)

    def candidates(self, output: Output) -> tuple[Tensor, Tensor]:
        """Boxes [B, A, 4] and scores [B, A, K] of all slots: objectness times class score."""
        return output.decoded(output.boxes), class_scores(output, self.activation)

    def decode(self, output: Output) -> Objects:
        """Detections: the candidates after NMS."""
        return self.postprocess(*self.candidates(output))


def fit_scaled(
    count: int, view: View, strides: Sequence[int], keys: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """`count` anchors for the training boxes, in pixels of an input of `anchors_at`."""
    height, width = view.size
    sides = (1.0, 1.0) if keys["fixed_anchors"] else (width, height)
    at = 1 if keys["fixed_anchors"] else keys["anchors_at"]
    found, reach = fit_anchors(view, count, [side / at for side in sides])
    return {"anchors": found}, reach


def upsampled(coarse: Tensor, fine: Tensor) -> Tensor:
    """[B, C, ..] and [B, D, h, w] -> [B, C + D, h, w]: cells repeated to the size of the finer."""
    up = nn.functional.interpolate(coarse, size=fine.shape[2:], mode="nearest")
    return torch.cat([up, fine], 1)
