"""MobileNet v1 (arXiv 1704.04861), and by torchvision v2 (1801.04381) and v3 (1905.02244).

Deviation of v1: table 1 lets the last depthwise convolution stride by 2 and keeps its map at 7x7;
only one of the two can be, and here the map stays.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torchvision
from torch import nn

from classify.backbones.block import conv_block
from classify.backbones.sequential import SequentialBackbone
from engine.config.ranges import Factor, PartialShare
from engine.errors import UserError

STAGES = (  # table 1: width and stride of the depthwise separable convolutions
    ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    ((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    ((1024, 2), (1024, 1)),
)
TAPS = {  # of torchvision's features, the last ones at strides 4, 8, 16 and 32
    "mobilenet_v2": (3, 6, 13, 18),
    "mobilenet_v3_small": (1, 3, 8, 12),
    "mobilenet_v3_large": (3, 6, 12, 16),
}


class MobileNetV1(SequentialBackbone):
    """The last maps of strides 4, 8, 16 and 32: 128, 256, 512 and 1024 channels at a factor of 1.

    Args:
        width_factor: factor on all channels (section 3.3); none falls below 8.
        order, dropout, bias: see `classify.backbones.block.conv_block`.
        weights: None or a file (`engine.weights.pretrained`).
    """

    strides = (4, 8, 16, 32)
    taps = (3, 5, 11, 13)

    def __init__(
        self,
        *,
        width_factor: Factor = 1.0,
        order: str = "conv-bn-act",
        dropout: PartialShare = 0.0,
        bias: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if not width_factor > 0:
            raise UserError(f"backbone.width_factor={width_factor}: expected a factor above 0")
        relu = partial(nn.ReLU, inplace=True)
        block = partial(conv_block, activation=relu, order=order, dropout=dropout, bias=bias)
        channels = max(8, int(32 * width_factor))
        stages, maps = [[block(3, channels, 3, stride=2)], [], []], [channels]
        for stage, table in zip(stages, STAGES, strict=True):
            for base, stride in table:
                wide = max(8, int(base * width_factor))
                depthwise = block(channels, channels, 3, stride=stride, groups=channels)
                stage.append(nn.Sequential(*depthwise, *block(channels, wide, 1)))
                channels = wide
                maps.append(wide)
        self.channels = tuple(maps[tap] for tap in self.taps)
        self.stage1, self.stage2, self.stage3 = (nn.Sequential(*stage) for stage in stages)
        self.pretrain(weights)

    def layers(self) -> Iterable[nn.Module]:
        """Of the three stages."""
        return [*self.stage1, *self.stage2, *self.stage3]


class MobileNet(SequentialBackbone):
    """The last maps of strides 4, 8, 16 and 32; the last of all is the 1x1 convolution on top.

    Args:
        name: mobilenet_v2, mobilenet_v3_small or mobilenet_v3_large.
        weights: None, DEFAULT, a name of torchvision's, or a file (`engine.weights.pretrained`).
    """

    strides = (4, 8, 16, 32)

    def __init__(self, *, name: str, weights: str | None = None) -> None:
        super().__init__()
        if name not in TAPS:
            raise UserError(f"backbone.name={name}: expected one of {', '.join(TAPS)}")
        net: Any = torchvision.models.get_model(name, weights=None)
        self.features, self.taps = net.features, TAPS[name]
        self.channels = tuple(net.features[tap].out_channels for tap in self.taps)
        self.pretrain(weights, name)

    def layers(self) -> Iterable[nn.Module]:
        """Of `features`, as torchvision names them."""
        return self.features
