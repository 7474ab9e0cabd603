"""A backbone, a head and a loss as one module: from uint8 pictures to losses or to objects."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engine.structures import Objects, Output

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)


class Network(nn.Module):
    """What the loop trains. `mean` and `std` of RGB in 0..1 travel in its state."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        backbone: Any,
        head: Any,
        criterion: Any,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.criterion = backbone, head, criterion
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255)

    def forward(self, images: Tensor) -> Output:
        """[B, 3, H, W] uint8 RGB -> what the network says about them."""
        x = (images.float() - self.mean) / self.std
        return self.head(self.backbone(x), (images.shape[2], images.shape[3]))

    def losses(self, output: Output, objects: Objects) -> dict[str, Tensor]:
        """Named, weighted terms, in float32."""
        output = output.float()
        with torch.no_grad():
            assigned = self.head.assign(output, objects)
        return self.criterion(output, assigned)

    def decode(self, output: Output) -> Objects:
        """Objects in pixels of the network's input."""
        return self.head.decode(output.float())
