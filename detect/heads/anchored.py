"""What heads with anchors share: a slot answers for what its anchor overlaps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from detect.anchors import last_of_each
from detect.coder import CentreSize
from detect.matching import box_loss_rows, gather_boxes, match
from detect.postprocess import Postprocess
from engine.errors import UserError
from engine.structures import Assigned, Objects, Output

Said = tuple[Tensor, Tensor]  # of one level, the code [B, a, 4] and logits [B, a, C]


def maps_from(strides: Sequence[int], first: int, levels: int) -> list[int]:
    """Which of a backbone's maps a head reads: from stride `first` on, at most `levels`."""
    maps = [i for i in last_of_each(strides) if strides[i] >= first][:levels]
    if not maps:
        raise UserError(
            f"this head needs a map of stride {first} or more (head.first_stride), the backbone's "
            f"have {list(strides)}: pick another backbone="
        )
    return maps


class Anchored(nn.Module):
    """Class and box of every anchor; a subclass makes them.

    Args:
        activation: softmax, with a background logit, last; or sigmoid.
        coder: between boxes and code; `detect.coder.CentreSize` unless given.
        positive, negative: overlaps, see `detect.matching.match`.
        clip: whether boxes end at the image's border before suppression.
    """

    outputs = frozenset({"logits", "boxes"})

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
                f"head: positive={positive}, negative={negative}: expected overlaps in 0..1, the "
                "negative at most the positive"
            )
        if coder is not None and not hasattr(coder, "decode"):
            raise UserError(f"head.coder={coder}: expected a part, as CentreSize in detect.coder")
        self.activation, self.clip = activation, clip
        self.positive, self.negative = positive, negative
        self.num_logits = num_classes + (activation == "softmax")
        self.coder, self.postprocess = coder or CentreSize(), postprocess or Postprocess()

    def to_output(
        self, said: list[Said], anchors: list[tuple[Tensor, Tensor]], image_size: tuple[int, int]
    ) -> Output:
        """All levels as one; `anchors` are of each level the boxes [a, 4] and cells [a, 2]."""
        boxes, logits = (torch.cat(parts, 1) for parts in zip(*said, strict=True))
        slots, cells = (torch.cat(parts).to(boxes.device) for parts in zip(*anchors, strict=True))
        return Output(
            logits,
            boxes,
            slots=slots,
            cells=cells,
            coder=self.coder,
            size=image_size,
            levels=tuple(len(level) for level, _ in anchors),
        )

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """By overlap of anchors and objects."""
        owner, labels = match(
            output.slots,
            objects,
            batch=len(output.logits),
            positive=self.positive,
            negative=self.negative,
        )
        return Assigned(labels, self._encode(output, objects, owner, labels))

    def _encode(self, output: Output, objects: Objects, owner: Tensor, labels: Tensor) -> Tensor:
        """Code [B, A, 4]; what it says of a slot without an object is nothing to go by."""
        rows = box_loss_rows(labels)  # [P]
        boxes, slot = gather_boxes(objects, owner.flatten()[rows]), rows % owner.shape[1]
        code = self.coder.encode(boxes, output.slots[slot], output.cells[slot])
        return code.new_zeros(owner.numel(), 4).index_copy_(0, rows, code).view(*owner.shape, 4)

    def decode(self, output: Output) -> Objects:
        """Every anchor's box and class scores, suppressed."""
        boxes = output.decoded(output.boxes)
        if self.clip:
            assert output.size is not None
            boxes = clip_boxes_to_image(boxes, output.size)
        return self.postprocess(boxes, self.keep_best(self._scores(output), output))

    def _scores(self, output: Output) -> Tensor:
        if self.activation == "softmax":
            return output.logits.softmax(-1)[..., :-1]
        return output.logits.sigmoid()

    def keep_best(self, scores: Tensor, output: Output) -> Tensor:
        """Scores [B, A, K] with 0 for what a head keeps out of suppression: nothing."""
        return scores


def best(scores: Tensor, count: int, dim: int) -> Tensor:
    """Scores with 0 for all but the `count` best along a dimension, and their equals."""
    if scores.shape[dim] <= count:
        return scores
    least = scores.topk(count, dim).values.amin(dim, keepdim=True)
    return scores * (scores >= least)


def columns(x: Tensor, each: int) -> Tensor:
    """A map [B, n * each, h, w] as [B, h * w * n, each]: cells row by row, a cell's n together."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, each)
