"""ResNet for images of 32 pixels (arXiv 1512.03385, 4.2).

Where sizes change, the shortcut is the paper's option A: every second row and column, and zeros for
the further channels, no parameters. The paper does not say where the zeros go; here half of them
stand before and half behind, as in akamaster/pytorch_resnet_cifar10, whose weights load by name.
A projection (option B) is what other public weights have.
"""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from classify.backbones.sequential import SequentialBackbone
from engine.config.ranges import Range
from engine.errors import UserError
from engine.structures import Preprocessing

SHORTCUTS = ("zeros", "projection")


class ZeroPadded(nn.Module):
    """Every second row and column, and zero channels before and behind: no parameters."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.before = (width - channels) // 2
        self.behind = width - channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, width, ceil(h / 2), ceil(w / 2)]."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.behind))


def _shortcut(kind: str, channels: int, width: int) -> nn.Module:
    if kind == "zeros":
        return ZeroPadded(channels, width)
    return nn.Sequential(nn.Conv2d(channels, width, 1, 2, bias=False), nn.BatchNorm2d(width))


def _stage(channels: int, width: int, blocks: int, shortcut: str) -> nn.Sequential:
    smaller = width > channels
    first = BasicBlock(
        channels, width, 1 + smaller, _shortcut(shortcut, channels, width) if smaller else None
    )
    return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(blocks - 1)))


class ResNetCIFAR(SequentialBackbone):
    """Three stages of equal depth, strides 1, 2 and 4.

    Args:
        depth: 6 n + 2 layers, n blocks a stage: 20, 32, 44, 56 in the paper.
        base_channels: channels of the first stage, 16 in the paper; they double from stage to
            stage.
        shortcut: where sizes change: zeros (option A, the paper's own here) or projection (B).
        weights: None or a file (`engine.weights.pretrained`).
    """

    strides = (1, 2, 4)
    taps = (3, 4, 5)
    default_preprocessing = Preprocessing(size=32, resize=32)

    def __init__(
        self,
        *,
        depth: Annotated[int, Range(8, 2000)] = 20,
        base_channels: Annotated[int, Range(1, 1024)] = 16,
        shortcut: str = "zeros",
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if shortcut not in SHORTCUTS:
            raise UserError(f"backbone.shortcut={shortcut}: expected {' or '.join(SHORTCUTS)}")
        blocks, odd = divmod(depth - 2, 6)
        if odd or blocks < 1:
            raise UserError(f"backbone.depth={depth}: expected 6 n + 2, such as 8, 14 or 20")
        self.channels = (base_channels, 2 * base_channels, 4 * base_channels)
        self.conv1 = nn.Conv2d(3, base_channels, 3, padding=1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(base_channels), nn.ReLU(inplace=True)
        self.layer1 = _stage(base_channels, base_channels, blocks, shortcut)
        self.layer2 = _stage(base_channels, 2 * base_channels, blocks, shortcut)
        self.layer3 = _stage(2 * base_channels, 4 * base_channels, blocks, shortcut)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # arXiv 1502.01852, as in the paper
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.pretrain(weights)
