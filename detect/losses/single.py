"""Loss of one object per image: L1 in pixels and 20 x cross-entropy (fast.ai's lesson 8)."""

import torch.nn.functional as F
from torch import Tensor, nn

from detect.losses.box import L1
from engine.config.ranges import NonNegative
from engine.distributed.collectives import mean_count
from engine.structures import BACKGROUND, Assigned, Output


class Single(nn.Module):
    """A box term, and cross-entropy of the class if the head predicts one.

    Args:
        classes: weight of the class term; 20 makes it about as large as an L1 in pixels.
        box: the box term; the mean L1 of the corners in pixels of a 224 x 224 image unless given.
    """

    activation = "softmax"
    requires = frozenset({"boxes"})
    trains = frozenset({"boxes", "logits"})
    single = True

    def __init__(self, *, classes: NonNegative = 20.0, box: nn.Module | None = None) -> None:
        super().__init__()
        self.classes = classes
        self.box = box or L1(space="box", side=224.0, weight=0.25)

    def forward(self, output: Output, assigned: Assigned) -> dict[str, Tensor]:
        """Terms `box` and, with logits, `class`; means over images with an object."""
        terms = {"box": self.box(output, assigned)}
        if output.logits is not None:
            labels = assigned.labels  # [B, 1]
            losses = F.cross_entropy(
                output.logits.flatten(0, 1),
                labels.clamp(min=BACKGROUND).flatten(),
                ignore_index=BACKGROUND,
                reduction="sum",
            )
            terms["class"] = self.classes * losses / mean_count((labels >= 0).sum())
        return terms
