"""ResNet 18, 34 and 50 (arXiv 1512.03385, table 1) by torchvision, as feature maps.

torchvision's bottleneck strides in the 3x3 convolution, not in the 1x1 as the paper's does.
"""

from typing import Any

import torchvision
from torch import Tensor, nn

from engine.errors import UserError

NAMES = ("resnet18", "resnet34", "resnet50")


class ResNet(nn.Module):
    """Feature maps of the four stages, strides 4, 8, 16 and 32.

    Args:
        name: resnet18, resnet34 or resnet50.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, *, name: str) -> None:
        super().__init__()
        if name not in NAMES:
            raise UserError(f"backbone.name={name}: expected one of {', '.join(NAMES)}")
        net: Any = torchvision.models.get_model(name, weights=None)
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.stages = nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4])
        width = net.fc.in_features
        self.channels = (width // 8, width // 4, width // 2, width)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> four maps, fine to coarse."""
        x = self.stem(images)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
