"""Stride and receptive field of every tensor, by recurrence over the operations that really run.

Of a map, cell i along the width sees the pixels from `low + i * jump` up to `high + i * jump` of
the image: `jump` is its stride, `high - low` its receptive field. For a convolution or a pooling
of kernel F, stride S, padding P and dilation D:

    N = (W - F + 2P) / S + 1        cells of the output, of W of the input (rounded down; F counts
                                    D (F - 1) + 1)
    jump' = S * jump
    low' = low - P * jump           high' = high + (D (F - 1) - P) * jump

so that the field grows by D (F - 1) * jump (Araujo, Norris and Sim, "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019). The height follows the same rules.

Where inputs meet, in a sum or side by side, all that one of them saw counts. A mean over all cells,
a matrix product and attention see the whole image.

Conventions: a gate, a map times one cell (squeeze and excitation, arXiv 1709.01507), does not widen
the map's field, though it has seen all; nor do the statistics of a normalisation. Interpolation
divides the stride and leaves the field.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class ReceptiveField(NamedTuple):
    """What cell 0 along the width sees: pixels `low` to `high`, infinite for the whole image."""

    jump: float = 1.0  # pixels from cell to cell, the stride
    low: float = 0.0
    high: float = 1.0

    @property
    def field(self) -> float:
        """The receptive field, pixels."""
        return self.high - self.low

    def window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "ReceptiveField":
        """Behind a convolution or a pooling."""
        low = self.low - padding * self.jump
        high = self.high + (dilation * (kernel - 1) - padding) * self.jump
        return ReceptiveField(self.jump * stride, low, high)

    def whole(self) -> "ReceptiveField":
        """Behind what looks at every cell."""
        return ReceptiveField(self.jump, -inf, inf)

    def enlarged(self, factor: float) -> "ReceptiveField":
        """Behind an interpolation to `factor` as many cells, about the same centre."""
        middle = self.jump * (1 - 1 / factor) / 2
        return ReceptiveField(self.jump / factor, self.low - middle, self.high - middle)


def _last(value: int | Sequence[int]) -> int:
    """The entry of the width."""
    return value if isinstance(value, int) else value[-1]


def _convolution(reach: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    _, weight, _, stride, padding, dilation, transposed = args[:7]
    kernel, stride = weight.shape[-1], _last(stride)
    if weight.dim() == 3:  # along a sequence, not along the width
        return reach
    if transposed:
        return reach.window(-(-kernel // stride), 1, 0).enlarged(stride)
    return reach.window(kernel, stride, _last(padding), _last(dilation))


def _pooling(reach: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    kernel = _last(args[1])
    stride = _last(args[2]) if len(args) > 2 and args[2] else kernel
    padding = _last(args[3]) if len(args) > 3 else 0
    return reach.window(kernel, stride, padding)


def _max_pooling(reach: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    spread = _last(args[4]) if len(args) > 4 else 1
    plain = _pooling(reach, args, out)
    return plain._replace(high=plain.high + (spread - 1) * (_last(args[1]) - 1) * reach.jump)


def _adaptive(reach: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    return reach if args[0].shape[-2:] == out.shape[-2:] else reach.whole()


def _reduction(reach: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    size = args[0].dim()
    dims = args[1] if len(args) > 1 and args[1] is not None else range(size)
    dims = [dims] if isinstance(dims, int) else dims
    return reach if all(dim % size == 1 for dim in dims) else reach.whole()  # over the channels


def _padding(reach: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    shift = args[1][0] * reach.jump
    return ReceptiveField(reach.jump, reach.low - shift, reach.high - shift)


def _slice(reach: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    dim, start = (args[1] if len(args) > 1 else 0), (args[2] if len(args) > 2 else 0)
    step = args[4] if len(args) > 4 else 1
    if args[0].dim() != 4 or dim % 4 != 3:
        return reach
    shift = (start or 0) * reach.jump
    return ReceptiveField(reach.jump * step, reach.low + shift, reach.high + shift)


def _enlargement(reach: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    return reach.enlarged(out.shape[-1] / args[0].shape[-1])


def _unshuffle(reach: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    return reach.window(args[1], args[1], 0)


def _shuffle(reach: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    return reach.enlarged(args[1])


def _everything(reach: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    return reach.whole()


RULES: dict[Any, Callable[[ReceptiveField, Sequence[Any], Tensor], ReceptiveField]] = {
    aten.convolution: _convolution,
    aten.max_pool2d_with_indices: _max_pooling,
    aten.avg_pool2d: _pooling,
    aten._adaptive_avg_pool2d: _adaptive,
    aten.adaptive_max_pool2d: _adaptive,
    aten.mean: _reduction,
    aten.sum: _reduction,
    aten.amax: _reduction,
    aten.constant_pad_nd: _padding,
    aten.slice: _slice,
    aten.pixel_unshuffle: _unshuffle,
    aten.pixel_shuffle: _shuffle,
    **dict.fromkeys((aten.upsample_nearest2d, aten.upsample_bilinear2d), _enlargement),
    **dict.fromkeys((aten.mm, aten.addmm, aten.bmm, aten.baddbmm), _everything),
    **dict.fromkeys(
        (
            aten._scaled_dot_product_flash_attention_for_cpu,
            aten._scaled_dot_product_fused_attention_overrideable,
            aten._native_multi_head_attention,
            aten._transformer_encoder_layer_fwd,
        ),
        _everything,
    ),
}
PRODUCTS = (aten.mul, aten.mul_)


class ReceptiveFields(TorchDispatchMode):
    """Knows the reach of every tensor computed while it is on, from those it was told of."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[
            int, tuple[Tensor, ReceptiveField]
        ] = {}  # by id; the tensor, so that ids stay

    def register(self, tensor: Tensor, reach: ReceptiveField) -> None:
        """The reach of a tensor from elsewhere: an image's is `ReceptiveField()`."""
        self.known[id(tensor)] = (tensor, reach)

    def of(self, tensor: Tensor) -> ReceptiveField | None:
        """The reach of a tensor; None where no image is in it."""
        return self.known.get(id(tensor), (None, None))[1]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and note what its outputs see."""
        out = func(*args, **(kwargs or {}))
        seen = [(x, reach) for x in tensors(args) if (reach := self.of(x))]
        if not seen:
            return out
        if func.overloadpacket in PRODUCTS:
            seen = _without_gate(seen)
        reaches = [reach for _, reach in seen]
        reach = ReceptiveField(
            max(r.jump for r in reaches), min(r.low for r in reaches), max(r.high for r in reaches)
        )
        results = tensors(out if isinstance(out, tuple | list) else [out])
        for tensor in results:
            rule = RULES.get(func.overloadpacket)
            self.register(tensor, rule(reach, args, results[0]) if rule else reach)
        return out


def tensors(values: Sequence[Any]) -> list[Tensor]:
    """The tensors among arguments, in lists too."""
    flat = [y for x in values for y in (x if isinstance(x, list | tuple) else [x])]
    return [x for x in flat if isinstance(x, Tensor)]


def _without_gate(seen: list[tuple[Tensor, ReceptiveField]]) -> list[tuple[Tensor, ReceptiveField]]:
    """The factors that are maps, where the others are single cells."""
    maps = [(x, reach) for x, reach in seen if x.dim() == 4 and x.shape[-2:].numel() > 1]
    return maps or seen
