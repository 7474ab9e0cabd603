"""ResNet for images of 32 pixels (arXiv 1512.03385, 4.2), with projections where sizes change.

The paper pads with zeros there (its option A); a projection costs a few parameters (option B).
"""

from typing import Annotated

from torch import nn
from torchvision.models.resnet import BasicBlock

from classify.backbones.sequential import SequentialBackbone
from engine.config.ranges import Range
from engine.errors import UserError


def _stage(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    project = None
    if stride > 1:
        conv = nn.Conv2d(channels, width, 1, stride, bias=False)
        project = nn.Sequential(conv, nn.BatchNorm2d(width))
    first = BasicBlock(channels, width, stride, project)
    return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(blocks - 1)))


class ResNetCIFAR(SequentialBackbone):
    """Three stages of equal depth, strides 1, 2 and 4.

    Args:
        depth: 6 n + 2 layers, n blocks a stage: 20, 32, 44, 56 in the paper.
        base_channels: channels of the first stage, 16 in the paper; they double from stage to
            stage.
        weights: None or a file (`engine.weights.pretrained`).
    """

    strides = (1, 2, 4)
    taps = (3, 4, 5)

    def __init__(
        self,
        *,
        depth: Annotated[int, Range(8, 2000)] = 20,
        base_channels: Annotated[int, Range(1, 1024)] = 16,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        blocks, odd = divmod(depth - 2, 6)
        if odd or blocks < 1:
            raise UserError(f"backbone.depth={depth}: expected 6 n + 2, such as 8, 14 or 20")
        self.channels = (base_channels, 2 * base_channels, 4 * base_channels)
        self.conv1 = nn.Conv2d(3, base_channels, 3, padding=1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(base_channels), nn.ReLU(inplace=True)
        self.layer1 = _stage(base_channels, base_channels, blocks, 1)
        self.layer2 = _stage(base_channels, 2 * base_channels, blocks, 2)
        self.layer3 = _stage(2 * base_channels, 4 * base_channels, blocks, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # arXiv 1502.01852, as in the paper
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.pretrain(weights)
