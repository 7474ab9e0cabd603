"""MobileNet v3 large as SSDlite reads it (arXiv 1905.02244, 6.3), by torchvision: half the tail."""

from functools import partial
from typing import Any

import torchvision
from torch import Tensor, nn

from classify.backbones.sequential import SequentialBackbone
from classify.backbones.torchvision_detectors import SSDLITE

C4 = 13  # the block whose first convolution gives the fine map


class MobileNetSSD(SequentialBackbone):
    """The widened map before stride 32's first depthwise convolution, at stride 16; the last, 32.

    Args:
        weights: None, COCO_V1 (also DEFAULT) for torchvision's SSDlite320, or a file
            (`engine.weights.pretrained`).
    """

    channels = (672, 480)
    strides = (16, 32)
    detectors = (SSDLITE,)

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        net = torchvision.models.mobilenet_v3_large(
            weights=None, norm_layer=norm, reduced_tail=True
        )
        self.features = net.features
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.03)
        self.pretrain(weights, "ssdlite320_mobilenet_v3_large")

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> [B, 672, H / 16, W / 16] and [B, 480, H / 32, W / 32]."""
        block: Any = self.features[C4].block
        fine = block[0](self.features[:C4](images))
        return [fine, self.features[C4 + 1 :](block[1:](fine))]

    def groups(self) -> list[list[nn.Module]]:
        """By depth: up to stride 8, up to the fine map's block, the rest."""
        layers = list(self.features)
        block: Any = layers[C4].block  # its parts, since `forward` calls them apart
        return [layers[:7], layers[7:C4], [*block, *layers[C4 + 1 :]]]
