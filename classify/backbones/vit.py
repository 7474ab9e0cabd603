"""Vision transformers (arXiv 2010.11929) by torchvision, for images of any size.

vit_tiny has the sizes of DeiT-Ti (arXiv 2012.12877, table 1). Positions of another grid than the
trained one are interpolated (2010.11929, 3.2), bicubic; sides that are no multiple of a patch are
filled up with zeros, right and below.
"""

from math import isqrt
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from engine.config.ranges import Range
from engine.errors import UserError
from engine.weights.pretrained import Pretrained, load

PATCH = 16
SIZES = {"vit_b_16": (768, 12, 12), "vit_tiny": (192, 12, 3)}  # width, depth, heads
PUBLISHED = ("vit_b_16",)  # by torchvision


class ViT(nn.Module):
    """One map: of the patches, stride 16, or of the class token, one cell.

    Args:
        name: vit_b_16 or vit_tiny.
        token: return the class token, from which the published weights classify, in place of the
            patches; a detector cannot use it.
        positions: side of the images for which positions are learnt, pixels; 384 for
            torchvision's IMAGENET1K_SWAG_E2E_V1.
        weights: None, DEFAULT, a name of torchvision's, or a file (`engine.weights.pretrained`).
    """

    encoder: Any
    pretrained: Pretrained | None = None
    extra_prefixes = ("encoder.pos_embedding",)  # of which `pretrain` says how they must be

    def __init__(
        self,
        *,
        name: str,
        token: bool = False,
        positions: Annotated[int, Range(16, 4096)] = 224,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if name not in SIZES:
            raise UserError(f"backbone.name={name}: expected one of {', '.join(SIZES)}")
        if positions < PATCH or positions % PATCH:
            raise UserError(f"backbone.positions={positions}: expected a multiple of {PATCH}")
        width, depth, heads = SIZES[name]
        net = VisionTransformer(
            image_size=positions,
            patch_size=PATCH,
            num_layers=depth,
            num_heads=heads,
            hidden_dim=width,
            mlp_dim=4 * width,
        )
        self.conv_proj, self.class_token, self.encoder = net.conv_proj, net.class_token, net.encoder
        self.token, self.side = token, positions // PATCH  # cells a side of the learnt grid
        # The token stands for the whole image, whatever its size: no stride, no detector.
        self.channels, self.strides = (width,), (0,) if token else (PATCH,)
        self.pretrain(weights, name if name in PUBLISHED else None)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> [B, D, ceil(H / 16), ceil(W / 16)], or [B, D, 1, 1] of the token."""
        height, width = images.shape[2:]
        x = self.conv_proj(F.pad(images, (0, -width % PATCH, 0, -height % PATCH)))
        rows, columns = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)  # [B, rows * columns, D]
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], 1)
        x = self.encoder.dropout(x + self._positions(rows, columns))
        x = self.encoder.ln(self.encoder.layers(x)).transpose(1, 2)  # [B, D, 1 + rows * columns]
        if self.token:
            return [x[:, :, 0, None, None]]
        return [x[:, :, 1:].unflatten(2, (rows, columns))]

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The token's and every cell's position [1, 1 + rows * columns, D]."""
        known = self.encoder.pos_embedding
        # a number only of the export's own: in a graph for any size, they are interpolated too
        if type(rows) is int and (rows, columns) == (self.side, self.side):
            return known
        grid = known[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side))
        grid = F.interpolate(grid, (rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([known[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def groups(self) -> list[list[nn.Module | nn.Parameter]]:
        """By depth, shallow first: the embedding, then the encoder's layers in four parts."""
        blocks = list(self.encoder.layers)
        each = len(blocks) // 4
        parts = [blocks[i : i + each] for i in range(0, len(blocks), each)]
        embedding = [self.conv_proj, self.class_token, self.encoder.pos_embedding]
        return [embedding, *parts[:-1], [*parts[-1], self.encoder.ln]]

    def pretrain(self, weights: str | None, published: str | None = None) -> None:
        """Start from `weights`, see `engine.weights.pretrained`; `published`: its name there."""
        self.pretrained = load(self, weights, published)
        if not self.pretrained or not self.pretrained.missing:
            return
        other = self.pretrained.unused_tensors.get("encoder.pos_embedding")
        if other is None or other.ndim != 3:
            raise UserError(f"backbone.weights={weights}: no positions in it: it is not whole")
        side = PATCH * isqrt(max(other.shape[1] - 1, 0))
        raise UserError(
            f"backbone.weights={weights}: its positions are for images of {side} pixels, "
            f"the backbone's for {PATCH * self.side}: set backbone.positions={side}"
        )
