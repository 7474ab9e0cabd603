"""VGG16 as SSD reads it (arXiv 1512.02325, 2.2 and 3).

Deviation, torchvision's too: fc6 and fc7 start at random, not from a classifier's, thinned out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from classify.backbones.sequential import SequentialBackbone
from classify.backbones.torchvision_detectors import SSD300

POOL3, POOL4, POOL5 = 16, 23, 30  # layers of VGG16


class Scale(nn.Module):
    """Features of length 1 in each cell, times a learnt scale a channel (arXiv 1506.04579, 3.3)."""

    def __init__(self, channels: int, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), start))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape."""
        return self.weight.view(1, -1, 1, 1) * F.normalize(x)


class VGGSSD(SequentialBackbone):
    """conv4_3, normalised, at stride 8; fc6 and fc7 as convolutions, fc6 dilated, at stride 16.

    The third pooling rounds up, the fifth keeps the size.

    Args:
        weights: None, DEFAULT or another of torchvision's names for VGG16, COCO_V1 for
            torchvision's SSD300, or a file (`engine.weights.pretrained`).
    """

    channels = (512, 1024)
    strides = (8, 16)
    detectors = (SSD300,)
    extra_prefixes = ("scale.", "fc6.", "fc7.")  # what no classifier's weights have

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        self.features = make_layers(cfgs["D"])[:POOL5]
        self.features[POOL3].ceil_mode = True  # type: ignore[assignment]  # 300 pixels make 38 cells
        self.scale = Scale(512, 20.0)
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                assert layer.bias is not None
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        for layer in (self.fc6, self.fc7):
            nn.init.xavier_uniform_(layer.weight)
        self.pretrain(weights, "vgg16")

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> [B, 512, H / 8, W / 8] and [B, 1024, H / 16, W / 16]."""
        fine = self.features[:POOL4](images)
        x = F.max_pool2d(self.features[POOL4:](fine), 3, stride=1, padding=1)
        return [self.scale(fine), F.relu(self.fc7(F.relu(self.fc6(x))))]

    def groups(self) -> list[list[nn.Module]]:
        """By depth: the first two blocks, up to conv4_3, the rest."""
        layers = list(self.features)
        rest = [*layers[POOL4:], self.scale, self.fc6, self.fc7]
        return [layers[:10], layers[10:POOL4], rest]
