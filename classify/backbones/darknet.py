"""Darknet-19 (arXiv 1612.08242, table 6), Darknet-53 (arXiv 1804.02767, table 1) and a tiny one.

Leaky rectifiers of slope .1; modules stand in running order, by which Darknet's .weights files are
read (`engine.weights.darknet`). Darknet-19 ends in a 1x1 convolution to the classes and then the
mean over the map: that equals the mean first and a linear head, so it is left to the head.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from classify.backbones.block import conv_block
from classify.backbones.darknet_detectors import YOLO_V2, YOLO_V3, YOLO_V3_TINY
from classify.backbones.sequential import SequentialBackbone
from engine.config.ranges import PartialShare

TABLE_6 = tuple(  # (kernel, width): 3x3 and 1x1 take turns
    tuple((1 if i % 2 else 3, width) for i, width in enumerate(row))
    for row in (
        (32,),
        (64,),
        (128, 64, 128),
        (256, 128, 256),
        (512, 256, 512, 256, 512),
        (1024, 512, 1024, 512, 1024),
    )
)
TABLE_1 = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))  # width, residual blocks of a stage
TINY = (16, 32, 64, 128, 256, 512, 1024)  # widths of yolov3-tiny.cfg, each 3x3
LEAKY = partial(nn.LeakyReLU, 0.1, inplace=True)


class DarknetStages(SequentialBackbone):
    """Rows of convolution blocks, a pooling by 2 between them; a subclass has the table.

    Maps before the poolings at strides 4, 8 and 16, and the last one, stride 32. The poolings drop
    an odd last row or column: a map's sides are rounded down.

    Args:
        order, dropout, bias: see `classify.backbones.block.conv_block`.
        weights: None or a file, Darknet's own included (`engine.weights.pretrained`).
    """

    table: ClassVar[Sequence[Sequence[tuple[int, int]]]]  # (kernel, width) of each convolution
    first_stride: ClassVar[int] = 1
    strides = (4, 8, 16, 32)

    def __init__(
        self,
        *,
        order: str = "conv-bn-act",
        dropout: PartialShare = 0.0,
        bias: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        block = partial(conv_block, activation=LEAKY, order=order, dropout=dropout, bias=bias)
        layers: list[nn.Module] = []
        ends, channels = [], 3
        for row in self.table:
            layers += [nn.MaxPool2d(2)] if layers else []
            for kernel, width in row:
                stride = 1 if layers else self.first_stride
                layers.append(block(channels, width, kernel, stride=stride))
                channels = width
            ends.append(len(layers) - 1)
        self.taps = ends[-4:]
        self.channels = tuple(row[-1][1] for row in self.table[-4:])
        self.features = nn.Sequential(*layers)
        self.pretrain(weights)

    def layers(self) -> Iterable[nn.Module]:
        """Convolution blocks and poolings."""
        return self.features


class Darknet19(DarknetStages):
    """Table 6 but for its last convolution."""

    table = TABLE_6
    darknets = YOLO_V2


class Residual(nn.Module):
    """A 1x1 convolution to half the width, a 3x3 back, and the input added."""

    def __init__(self, *, width: int, block: partial[nn.Sequential]) -> None:
        super().__init__()
        self.narrow = block(width, width // 2, 1)
        self.wide = block(width // 2, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] -> the same size."""
        return x + self.wide(self.narrow(x))


class Darknet53(SequentialBackbone):
    """Maps of the stages at strides 4, 8, 16 and 32.

    Args:
        order, dropout, bias: see `classify.backbones.block.conv_block`.
        weights: None or a file, Darknet's own included (`engine.weights.pretrained`).
    """

    channels = (128, 256, 512, 1024)
    strides = (4, 8, 16, 32)
    taps = (2, 3, 4, 5)
    darknets = YOLO_V3

    def __init__(
        self,
        *,
        order: str = "conv-bn-act",
        dropout: PartialShare = 0.0,
        bias: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        block = partial(conv_block, activation=LEAKY, order=order, dropout=dropout, bias=bias)
        self.stem = block(3, 32, 3)
        channels = 32
        for i, (width, count) in enumerate(TABLE_1, 1):
            stage = [Residual(width=width, block=block) for _ in range(count)]
            self.add_module(f"stage{i}", nn.Sequential(block(channels, width, 3, stride=2), *stage))
            channels = width
        self.pretrain(weights)


class PoolAhead(nn.Module):
    """The highest of a cell and those right of it, below it and both; the size is kept.

    Darknet's maxpool of size 2 and stride 1, which pads the right and the bottom.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> the same size."""
        return F.max_pool2d(x, 2, stride=1, padding=1)[..., 1:, 1:]


class DarknetTiny(SequentialBackbone):
    """The backbone of yolov3-tiny.cfg (https://github.com/pjreddie/darknet): 3x3 and poolings by 2.

    Maps before the poolings at strides 4, 8 and 16, and the last one, stride 32, behind a pooling
    that keeps the size. A map's sides are rounded up, as in Darknet.

    Args:
        order, dropout, bias: see `classify.backbones.block.conv_block`.
        weights: None or a file, Darknet's own included (`engine.weights.pretrained`).
    """

    channels = (64, 128, 256, 1024)
    strides = (4, 8, 16, 32)
    taps = (4, 6, 8, 12)
    darknets = YOLO_V3_TINY

    def __init__(
        self,
        *,
        order: str = "conv-bn-act",
        dropout: PartialShare = 0.0,
        bias: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        block = partial(conv_block, activation=LEAKY, order=order, dropout=dropout, bias=bias)
        layers: list[nn.Module] = [block(3, TINY[0], 3)]
        for channels, width in pairwise(TINY):
            last = width == TINY[-1]
            layers.append(PoolAhead() if last else nn.MaxPool2d(2, ceil_mode=True))
            layers.append(block(channels, width, 3))
        self.features = nn.Sequential(*layers)
        self.pretrain(weights)

    def layers(self) -> Iterable[nn.Module]:
        """Convolution blocks and poolings."""
        return self.features
