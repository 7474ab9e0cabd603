"""Base class of heads with anchors, which are assigned to objects by IoU."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from detect.anchors import last_map_per_stride
from detect.coder import CentreSize
from detect.findings import BoxFindings
from detect.matching import box_loss_rows, gather_boxes, match
from detect.postprocess import Postprocess
from detect.slot_cache import SlotCache, Slots
from engine.errors import UserError
from engine.structures import Assigned, Objects, Output

LevelOutput = tuple[Tensor, Tensor]  # of one level: box code [B, a, 4] and logits [B, a, C]


def select_maps(strides: Sequence[int], first: int, levels: int) -> list[int]:
    """Indices of the maps that a head reads: at most `levels`, of stride `first` or more."""
    maps = [i for i in last_map_per_stride(strides) if strides[i] >= first][:levels]
    if not maps:
        raise UserError(
            f"this head needs a map of stride {first} or more (head.first_stride); the backbone's "
            f"have {list(strides)}: pick another backbone="
        )
    return maps


class Anchored(BoxFindings, nn.Module):
    """Assignment and decoding of anchors; a subclass computes class logits and box code.

    Args:
        activation: `softmax`, whose last logit is the background; or `sigmoid`.
        coder: box coder; `detect.coder.CentreSize` unless given.
        positive, negative: IoU thresholds, see `detect.matching.match`.
        clip: whether boxes are clipped to the image before NMS.
    """

    outputs = frozenset({"logits", "boxes"})
    anchor_key = "head.scales and head.ratios"

    def __init__(
        self,
        *,
        num_classes: int,
        activation: str,
        coder: Any = None,
        positive: float = 0.5,
        negative: float = 0.4,
        clip: bool = False,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= negative <= positive <= 1:
            raise UserError(
                f"head: positive={positive}, negative={negative}: expected IoUs in 0..1, "
                "negative at most positive"
            )
        if coder is not None and not hasattr(coder, "decode"):
            raise UserError(f"head.coder={coder}: expected a coder, as detect.coder.CentreSize")
        self.activation, self.clip = activation, clip
        self.positive, self.negative = positive, negative
        self.num_logits = num_classes + (activation == "softmax")
        self.coder, self.postprocess = coder or CentreSize(), postprocess or Postprocess()
        self.protocol = self.postprocess.protocol
        self.slot_cache = SlotCache()

    def level_anchors(
        self, level: int, grid: tuple[int, int], image_size: tuple[int, int]
    ) -> Slots:
        """Anchors of one level, on any device, and their cells; see `detect.anchors`."""
        raise NotImplementedError

    def to_output(
        self,
        levels: list[LevelOutput],
        grids: list[tuple[int, int]],
        image_size: tuple[int, int],
    ) -> Output:
        """The Output of all levels together.

        Args:
            levels: box code and logits of each.
            grids: (rows, columns) of each.
            image_size: (height, width).
        """
        boxes, logits = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))

        def anchors() -> Slots:
            made = [self.level_anchors(i, grid, image_size) for i, grid in enumerate(grids)]
            slots, cells = (torch.cat(parts) for parts in zip(*made, strict=True))
            return slots, cells

        slots, cells = self.slot_cache(boxes, (*grids, image_size), anchors)
        return Output(
            logits,
            boxes,
            slots=slots,
            cells=cells,
            coder=self.coder,
            size=image_size,
            levels=tuple(code.shape[1] for code, _ in levels),
        )

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """Assign objects to anchors by IoU."""
        matched_gt, labels = match(
            output.slots,
            objects,
            batch=len(output.logits),
            positive=self.positive,
            negative=self.negative,
        )
        return Assigned(labels, self._encode(output, objects, matched_gt, labels))

    def _encode(
        self, output: Output, objects: Objects, matched_gt: Tensor, labels: Tensor
    ) -> Tensor:
        """Box code [B, A, 4] of each slot's object; meaningless for slots without one."""
        rows = box_loss_rows(labels)  # [P]
        boxes, slot = gather_boxes(objects, matched_gt.flatten()[rows]), rows % matched_gt.shape[1]
        code = self.coder.encode(boxes, output.slots[slot], output.cells[slot])
        every = code.new_zeros(matched_gt.numel(), 4).index_copy_(0, rows, code)
        return every.view(*matched_gt.shape, 4)

    def candidates(self, output: Output) -> tuple[Tensor, Tensor]:
        """Boxes [B, A, 4] and scores [B, A, K] of all anchors."""
        boxes = output.decoded(output.boxes)
        if self.clip:
            assert output.size is not None
            boxes = clip_boxes_to_image(boxes, output.size)
        return boxes, self.keep_best(self._scores(output), output)

    def decode(self, output: Output) -> Objects:
        """Detections: the candidates after NMS."""
        return self.postprocess(*self.candidates(output))

    def _scores(self, output: Output) -> Tensor:
        if self.activation == "softmax":
            return output.logits.softmax(-1)[..., :-1]
        return output.logits.sigmoid()

    def keep_best(self, scores: Tensor, output: Output) -> Tensor:
        """Scores [B, A, K], with 0 for those that a subclass keeps out of NMS; here none."""
        return scores


def keep_top(scores: Tensor, count: int, dim: int) -> Tensor:
    """Scores, with 0 for all below the `count`-th highest along a dimension; ties are kept."""
    if scores.shape[dim] <= count:
        return scores
    least = scores.topk(count, dim).values.amin(dim, keepdim=True)
    return scores * (scores >= least)


def permute_and_flatten(x: Tensor, size: int) -> Tensor:
    """[B, n * size, h, w] -> [B, h * w * n, size]: cells row by row, those n of a cell adjacent."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, size)
