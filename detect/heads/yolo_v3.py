"""The YOLOv3 head (arXiv 1804.02767, 2.1 to 2.4): three scales, three anchors each, objectness.

Deviations: any backbone with maps at strides 8, 16 and 32; the neck's width follows the backbone's
channels; ReLU-family activation as configured in the paper's Darknet (leaky, 0.1).
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from detect.anchors import grid_anchors, last_map_per_stride
from detect.coder import YOLOCoder
from detect.heads.yolo_slots import assign_best_anchor, class_scores, conv, objectness_bias
from detect.postprocess import Postprocess
from engine.config.ranges import BoxClasses, InnerShare, Length, Range, Share, Side
from engine.errors import UserError
from engine.structures import Assigned, Objects, Output

Pixels = Annotated[float, Range(0, 10_000, "(]")]

STRIDES = (8, 16, 32)


def _convolutional_set(channels: int, width: int) -> nn.Sequential:
    """The five alternating 1x1 and 3x3 convolutions before each scale's prediction."""
    layers = [conv(channels, width, 1)]
    for _ in range(2):
        layers += [conv(width, 2 * width, 3), conv(2 * width, width, 1)]
    return nn.Sequential(*layers)


class YOLOv3(nn.Module):
    """Box, objectness and class of every anchor at three strides.

    Args:
        anchors: (width, height) in pixels of an input whose side is `anchors_at`, small to large: a
            third for each stride, fine to coarse. They are scaled to the input.
        ignore: a slot whose predicted box has an IoU above this with an object is no negative.
        prior: initial objectness of every slot.
    """

    outputs = frozenset({"logits", "boxes", "objectness"})
    sizes: Tensor

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: BoxClasses,
        activation: str,
        anchors: Annotated[Sequence[tuple[Pixels, Pixels]], Length(3, 300)],
        anchors_at: Side = 416,
        ignore: Share = 0.5,
        prior: InnerShare = 0.01,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__()
        if missing := set(STRIDES) - set(strides):
            raise UserError(
                f"head yolo_v3 needs maps of stride 8, 16 and 32; {sorted(missing)} are missing: "
                "pick another backbone="
            )
        if not anchors or len(anchors) % 3 or any(len(sides) != 2 for sides in anchors):
            raise UserError(
                f"head.anchors={anchors}: expected [width, height] of three anchors or a "
                f"multiple, in pixels of an input of {anchors_at}"
            )
        self.activation, self.ignore = activation, ignore
        self.coder, self.postprocess = YOLOCoder(), postprocess or Postprocess()
        self.protocol = self.postprocess.protocol
        sizes = torch.tensor(anchors, dtype=torch.float32).view(3, -1, 2) / anchors_at  # [3, n, 2]
        self.register_buffer("sizes", sizes, persistent=False)
        self.levels = [i for i in last_map_per_stride(strides) if strides[i] in STRIDES]
        self.num_classes = num_classes
        self.sets, self.laterals, self.predictors = (
            nn.ModuleList(),
            nn.ModuleList(),
            nn.ModuleList(),
        )
        coarser = 0  # channels of the level before
        for level in reversed(self.levels):  # coarse to fine; each takes the one before, upsampled
            width = channels[level] // 2
            if coarser:
                self.laterals.append(conv(coarser, coarser // 2, 1))
            self.sets.append(_convolutional_set(channels[level] + coarser // 2, width))
            self.predictors.append(self._predictor(width, sizes.shape[1], prior))
            coarser = width

    def _predictor(self, width: int, anchors: int, prior: float) -> nn.Sequential:
        outputs = 5 + self.num_classes
        last = nn.Conv2d(2 * width, anchors * outputs, 1)
        nn.init.normal_(last.weight, std=0.01)
        bias = torch.zeros(anchors, outputs)
        bias[:, 4] = objectness_bias(prior, self.activation)
        last.bias = nn.Parameter(bias.flatten())
        return nn.Sequential(conv(width, 2 * width, 3), last)

    def forward(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """Slots are anchors, those of the coarsest map first."""
        outputs, slots, cells = [], [], []
        x: Tensor | None = None
        for i, level in enumerate(reversed(self.levels)):
            feature = features[level]
            if x is not None:
                size = feature.shape[2:]
                up = nn.functional.interpolate(self.laterals[i - 1](x), size=size, mode="nearest")
                feature = torch.cat([up, feature], 1)
            x = self.sets[i](feature)
            y = self.predictors[i](x).permute(0, 2, 3, 1)  # [B, h, w, n * (5 + C)]
            outputs.append(y.reshape(y.shape[0], -1, 5 + self.num_classes))
            sides = self.sizes[-1 - i].cpu() * torch.tensor(image_size[::-1])
            grid = (feature.shape[2], feature.shape[3])
            boxes, cell = grid_anchors(grid, sides, image_size)
            slots.append(boxes.to(y.device))
            cells.append(cell.to(y.device))
        y = torch.cat(outputs, 1)  # [B, A, 5 + C]
        slots, cells = torch.cat(slots), torch.cat(cells)
        return Output(y[..., 5:], y[..., :4], y[..., 4], slots, cells, self.coder, image_size)

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """See `detect.heads.yolo_slots.assign_best_anchor`."""
        return assign_best_anchor(output, objects, self.ignore)

    def candidates(self, output: Output) -> tuple[Tensor, Tensor]:
        """Boxes [B, A, 4] and scores [B, A, K] of all slots: objectness times class score."""
        return output.decoded(output.boxes), class_scores(output, self.activation)

    def decode(self, output: Output) -> Objects:
        """Detections: the candidates after NMS."""
        return self.postprocess(*self.candidates(output))
