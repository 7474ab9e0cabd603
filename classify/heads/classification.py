"""The base of heads with one slot: the whole image."""

from typing import Any

import torch
from torch import Tensor, nn

from classify.top_classes import TopClasses
from engine.errors import UserError
from engine.structures import BACKGROUND, IGNORE, Assigned, Objects, Output


class ClassificationHead(nn.Module):
    """Classifies the whole image; a subclass makes the logits.

    Args:
        top: number of classes predicted for an image, at most all.
    """

    outputs = frozenset({"logits"})

    def __init__(self, *, num_classes: int, activation: str, top: int = 100) -> None:
        super().__init__()
        if top < 1:
            raise UserError(f"head.top={top}: expected at least 1")
        self.num_classes, self.activation = num_classes, activation
        self.postprocess = TopClasses(top=top)

    def classify(self, features: list[Tensor]) -> Tensor:
        """Feature maps -> logits [B, K], or [B, S, K] with auxiliary slots behind the first."""
        raise NotImplementedError

    def forward(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """One slot an image, or one and its auxiliary ones."""
        logits = self.classify(features)
        logits = logits if logits.ndim == 3 else logits[:, None]  # [B, S, K]
        whole = whole_image(logits, image_size)
        return Output(logits, slots=whole.expand(logits.shape[1], 4))

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """Under a softmax the image's one label [B, S]; under a sigmoid multi-hot [B, S, K].

        Where training mixes images (mixup, cutmix), shares of the classes [B, S, K] under both.
        """
        batch, slots = output.logits.shape[:2]
        mixed = objects.has_shares or len(objects) > batch
        one = self.activation == "softmax" and not mixed
        labels = (self._label if one else self._shares)(batch, objects)[:, None]
        return Assigned(labels.expand(-1, slots, *labels.shape[2:]))

    def _label(self, batch: int, objects: Objects) -> Tensor:
        labels = torch.where(objects.ignore, IGNORE, objects.labels)
        return labels.new_full((batch,), BACKGROUND).index_copy(0, objects.batch_index, labels)

    def _shares(self, batch: int, objects: Objects) -> Tensor:
        """[B, K]: the share of each class, at most 1; IGNORE where only ignored objects have it."""
        place = objects.batch_index * self.num_classes + objects.labels  # [M]
        none = objects.scores.new_zeros(batch * self.num_classes)
        share = none.index_add(0, place, objects.scores * ~objects.ignore).clamp(max=1)
        shown = none.index_add(0, place, objects.scores)
        # An object that counts outweighs one that is ignored.
        absent = torch.where(shown > 0, float(IGNORE), 0.0)
        return torch.where(share > 0, share, absent).view(batch, self.num_classes)

    def candidates(self, output: Output) -> tuple[Tensor, Tensor]:
        """The whole image as a box [B, 1, 4], and its scores [B, 1, K]."""
        logits = output.logits[:, :1]
        scores = logits.softmax(-1) if self.activation == "softmax" else logits.sigmoid()
        return output.slots[:1].expand(logits.shape[0], 1, 4), scores

    def decode(self, output: Output) -> Objects:
        """The best few classes of each image, as objects that fill it."""
        return self.postprocess(*self.candidates(output))


def whole_image(like: Tensor, image_size: tuple[int, int]) -> Tensor:
    """The box [1, 4] of an image of (height, width), of the type and device of `like`."""
    height, width = image_size
    sides = like.new_full((1, 1), width), like.new_full((1, 1), height)
    return torch.cat([like.new_zeros(1, 2), *sides], 1)  # a list would be copied in every step


def linear(width: int, outputs: int, **options: Any) -> nn.Linear:
    """A last layer that starts near zero, so that the first loss is ln K."""
    layer = nn.Linear(width, outputs, **options)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer
