"""YOLOv1's network (arXiv 1506.02640, figure 3): the 20 convolutions that were trained to classify.

Its last four convolutions and its fully connected layers are head=yolo_v1. Deviation: batch
normalisation, as in Darknet's own later files.
"""

from collections.abc import Iterable
from functools import partial

from torch import nn

from classify.backbones.block import conv_block
from classify.backbones.chain import Chain
from classify.backbones.darknet import LEAKY

FIGURE_3 = (  # (kernel, width); the first convolution has stride 2, a pooling between the rows
    ((7, 64),),
    ((3, 192),),
    ((1, 128), (3, 256), (1, 256), (3, 512)),
    ((1, 256), (3, 512)) * 4 + ((1, 512), (3, 1024)),
    ((1, 512), (3, 1024)) * 2,
)


class DarknetV1(Chain):
    """Maps before the poolings at strides 4, 8 and 16, and the last one, stride 32.

    The poolings drop an odd last row or column: a map's sides are rounded down.

    Args:
        order, dropout, bias: see `classify.backbones.block.conv_block`.
        weights: None or a file, Darknet's own included (`engine.weights.load`).
    """

    channels = (192, 512, 1024, 1024)
    strides = (4, 8, 16, 32)

    def __init__(
        self,
        *,
        order: str = "conv-bn-act",
        dropout: float = 0.0,
        bias: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        block = partial(conv_block, activation=LEAKY, order=order, dropout=dropout, bias=bias)
        layers: list[nn.Module] = []
        ends, channels = [], 3
        for row in FIGURE_3:
            layers += [nn.MaxPool2d(2)] if layers else []
            for kernel, width in row:
                layers.append(block(channels, width, kernel, stride=1 if layers else 2))
                channels = width
            ends.append(len(layers) - 1)
        self.taps = ends[1:]
        self.features = nn.Sequential(*layers)
        self.pretrain(weights)

    def layers(self) -> Iterable[nn.Module]:
        """Convolution blocks and poolings."""
        return self.features
