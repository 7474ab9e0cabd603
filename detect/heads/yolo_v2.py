"""The YOLOv2 head (arXiv 1612.08242, 2): anchors on stride 32, with a pass-through layer.

Deviations: any backbone with maps at strides 16 and 32; the finer map is padded or cropped to twice
the cells of the coarser one if the image's sides are no multiples of 32; the pass-through stacks
each 2x2 cells, as the paper says, unless `darknet_reorg`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detect.anchors import grid_anchors, last_map_per_stride
from detect.coder import YOLOCoder
from detect.findings import BoxFindings
from detect.fit import anchors as fit_anchors
from detect.heads.yolo_slots import assign_best_anchor, class_scores, conv, objectness_bias
from detect.postprocess import Postprocess
from detect.priors import STRIDE
from detect.slot_cache import SlotCache, Slots
from engine.config.ranges import BoxClasses, Channels, InnerShare, Length, Scale, Share
from engine.errors import UserError
from engine.finding import View
from engine.structures import Assigned, Objects, Output

ANCHORS = [(1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892), (9.47112, 4.84053),
           (11.2364, 10.0071)]  # of VOC: yolov2-voc.cfg  # fmt: skip


def fit_cells(
    view: View, strides: Sequence[int], keys: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """As many anchors for the training boxes as the paper has, in cells."""
    found, reach = fit_anchors(view, len(ANCHORS), [STRIDE, STRIDE])
    return {"anchors": found}, reach


class YOLOv2(BoxFindings, nn.Module):
    """Box, objectness and class of every anchor of one grid.

    Args:
        anchors: (width, height) in cells. None: those of VOC, or of COCO under its weights.
        conv_channels: channels of the 3x3 convolutions.
        passthrough: channels of the 1x1 convolution of the stride-16 map before space-to-depth;
            None for no such convolution.
        darknet_reorg: whether its cells are stacked as Darknet's reorg layer does, see
            `darknet_reorg`; None is False, or True under Darknet's weights.
        ignore: a slot whose predicted box has an IoU above this with an object is no negative.
        prior: initial objectness of every slot.
    """

    outputs = frozenset({"logits", "boxes", "objectness"})
    anchor_key = "head.anchors"
    fits: ClassVar = {"anchors": fit_cells}
    sizes: Tensor

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: BoxClasses,
        activation: str,
        anchors: Annotated[Sequence[tuple[Scale, Scale]], Length(1, 100)] | None = None,
        conv_channels: Channels = 1024,
        passthrough: Channels | None = 64,
        darknet_reorg: bool | None = None,
        ignore: Share = 0.6,
        prior: InnerShare = 0.5,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__()
        if missing := {16, 32} - set(strides):
            raise UserError(
                f"head yolo_v2 needs maps of stride 16 and 32; {sorted(missing)} are missing: pick "
                "another backbone="
            )
        anchors = ANCHORS if anchors is None else anchors
        if not anchors or any(len(sides) != 2 or min(sides) <= 0 for sides in anchors):
            raise UserError(
                f"head.anchors={anchors}: expected [width, height] of each, above 0, in cells"
            )
        if not 0 < prior < 1:
            raise UserError(f"head.prior={prior}: expected a probability between 0 and 1")
        self.activation, self.ignore = activation, ignore
        self.coder, self.postprocess = YOLOCoder(), postprocess or Postprocess()
        self.protocol, self.slot_cache = self.postprocess.protocol, SlotCache()
        self.register_buffer("sizes", torch.tensor(anchors, dtype=torch.float32), persistent=False)
        last = {strides[i]: i for i in last_map_per_stride(strides)}
        self.fine, self.coarse = last[16], last[32]
        fine = channels[self.fine]
        self.stack = _stacking(bool(darknet_reorg), passthrough or fine)
        self.through = conv(fine, passthrough, 1) if passthrough else nn.Identity()
        self.deep = nn.Sequential(
            conv(channels[self.coarse], conv_channels, 3), conv(conv_channels, conv_channels, 3)
        )
        self.joined = conv(conv_channels + 4 * (passthrough or fine), conv_channels, 3)
        self.predictor = nn.Conv2d(conv_channels, len(anchors) * (5 + num_classes), 1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        bias = torch.zeros(len(anchors), 5 + num_classes)
        bias[:, 4] = objectness_bias(prior, activation)
        self.predictor.bias = nn.Parameter(bias.flatten())

    def forward(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """Slots are cells row by row, each with its anchors in turn."""
        deep = self.deep(features[self.coarse])
        rows, columns = deep.shape[2:]
        fine = self.stack(_fitted(self.through(features[self.fine]), (rows, columns)))
        y = self.predictor(self.joined(torch.cat([fine, deep], 1)))
        y = y.unflatten(1, (len(self.sizes), -1)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        place = ((rows, columns), image_size)
        slots, cells = self.slot_cache(y, place, partial(self._slots, *place))
        return Output(y[..., 5:], y[..., :4], y[..., 4], slots, cells, self.coder, image_size)

    def _slots(self, grid: tuple[int, int], image_size: tuple[int, int]) -> Slots:
        cell = torch.tensor([image_size[1] / grid[1], image_size[0] / grid[0]])
        return grid_anchors(grid, self.sizes.cpu() * cell, image_size)

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """See `detect.heads.yolo_slots.assign_best_anchor`."""
        return assign_best_anchor(output, objects, self.ignore)

    def candidates(self, output: Output) -> tuple[Tensor, Tensor]:
        """Boxes [B, A, 4] and scores [B, A, K] of all slots: objectness times class score."""
        return output.decoded(output.boxes), class_scores(output, self.activation)

    def decode(self, output: Output) -> Objects:
        """Detections: the candidates after NMS."""
        return self.postprocess(*self.candidates(output))


def _stacking(darknet: bool, channels: int) -> Callable[[Tensor], Tensor]:
    if darknet and channels % 4:
        raise UserError(
            f"head.darknet_reorg=true: a finer map of {channels} channels, expected a multiple of "
            "4: set head.passthrough"
        )
    return darknet_reorg if darknet else partial(F.pixel_unshuffle, downscale_factor=2)


def _fitted(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, D, ..] padded or cropped at the right and bottom to twice the cells (h, w) of `grid`."""
    rows, columns = (2 * side for side in grid)
    return F.pad(x, (0, columns - x.shape[3], 0, rows - x.shape[2]))  # negative padding crops


def space_to_depth(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, D, 2 h, 2 w] -> [B, 4 D, h, w]: each 2 x 2 cells become one.

    Args:
        x: padded or cropped at the right and bottom if it is not [B, D, 2 h, 2 w].
        grid: (h, w).
    """
    return F.pixel_unshuffle(_fitted(x, grid), 2)


def darknet_reorg(x: Tensor) -> Tensor:
    """[B, D, 2 h, 2 w] -> [B, 4 D, h, w] as Darknet's reorg layer of stride 2 (blas.c, reorg_cpu).

    It reads the numbers as a map of D / 4 channels and twice the sides, and what it writes, of the
    shape of `x`, is read as one of 4 D channels. So cells do not stay where they are: no order of
    channels makes it of the paper's stacking, and published weights need it as it is.
    """
    batch, channels, rows, columns = x.shape
    cells = x.reshape(batch, channels // 4, rows, 2, columns, 2).permute(0, 3, 5, 1, 2, 4)
    return cells.reshape(batch, 4 * channels, rows // 2, columns // 2)
