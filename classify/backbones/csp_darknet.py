"""A cross-stage-partial Darknet (arXiv 1911.11929): Darknet-53's stages, half of each left out.

In a stage, one 1x1 convolution leads half the width through residual blocks, a second leads the
other half past them, and a third joins the two ("C3"); the gradient of the second half is not
repeated in the blocks (section 3.1). Deviations: SiLU (arXiv 1702.03118); a stem of stride 2 in
place of two layers at full size; `width_factor` and `depth`; the last map goes through spatial
pyramid pooling (arXiv 1406.4729), its windows of 5, 9 and 13 cells made of 5-cell ones in a row.
"""

from functools import partial

import torch
from torch import Tensor, nn

from classify.backbones.block import conv_block
from classify.backbones.sequential import SequentialBackbone
from engine.config.ranges import Factor, PartialShare
from engine.errors import UserError

STAGES = ((128, 2), (256, 8), (512, 8), (1024, 4))  # of Darknet-53 from stride 4 on, at factor 1
Block = partial[nn.Sequential]


class Bottleneck(nn.Module):
    """A 1x1 and a 3x3 convolution, and the input added."""

    def __init__(self, *, width: int, block: Block) -> None:
        super().__init__()
        self.first = block(width, width, 1)
        self.second = block(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] -> the same size."""
        return x + self.second(self.first(x))


class C3(nn.Module):
    """Half the width through `depth` bottlenecks, half past them, joined."""

    def __init__(self, *, width: int, depth: int, block: Block) -> None:
        super().__init__()
        half = width // 2
        self.through = block(width, half, 1)
        self.blocks = nn.Sequential(*(Bottleneck(width=half, block=block) for _ in range(depth)))
        self.past = block(width, half, 1)
        self.join = block(2 * half, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] -> the same size."""
        return self.join(torch.cat([self.blocks(self.through(x)), self.past(x)], 1))


class PyramidPooling(nn.Module):
    """The map beside its maxima over 5, 9 and 13 cells; two windows of 5 in a row see 9."""

    def __init__(self, *, width: int, block: Block) -> None:
        super().__init__()
        half = width // 2
        self.narrow = block(width, half, 1)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.join = block(4 * half, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] -> the same size."""
        seen = [self.narrow(x)]
        for _ in range(3):
            seen.append(self.pool(seen[-1]))
        return self.join(torch.cat(seen, 1))


class CSPDarknet(SequentialBackbone):
    """Maps of four stages, strides 4, 8, 16 and 32: 128 to 1024 channels at width 1.

    Args:
        width_factor: factor on all channels; they are rounded to multiples of 8.
        depth: factor on the bottlenecks of a stage, 2, 8, 8 and 4; at least one stays.
        order, dropout, bias: see `classify.backbones.block.conv_block`.
        weights: None or a file (`engine.weights.pretrained`).
    """

    strides = (4, 8, 16, 32)
    taps = (1, 2, 3, 4)

    def __init__(
        self,
        *,
        width_factor: Factor = 0.5,
        depth: Factor = 0.33,
        order: str = "conv-bn-act",
        dropout: PartialShare = 0.0,
        bias: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if not (width_factor > 0 and depth > 0):
            raise UserError(
                f"backbone.width_factor={width_factor}, backbone.depth={depth}: expected "
                "factors above 0"
            )
        block = partial(conv_block, activation=nn.SiLU, order=order, dropout=dropout, bias=bias)
        stem, *widths = (
            max(8, 8 * round(base * width_factor / 8)) for base in (64, 128, 256, 512, 1024)
        )
        self.channels = widths
        self.stem = block(3, stem, 3, stride=2)
        before = [stem, *widths]
        for i, (wide, (_, count)) in enumerate(zip(widths, STAGES, strict=True)):
            c3 = C3(width=wide, depth=max(1, round(count * depth)), block=block)
            stage = nn.Sequential(block(before[i], wide, 3, stride=2), c3)
            if i == len(STAGES) - 1:
                stage.append(PyramidPooling(width=wide, block=block))
            self.add_module(f"stage{i + 1}", stage)
        self.pretrain(weights)
