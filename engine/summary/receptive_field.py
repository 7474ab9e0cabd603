"""Stride and receptive field of every tensor, by recurrence over the operations that run.

Cell i along the width of a map sees the image's pixels from `low + i * jump` to `high + i * jump`:
`jump` is the map's stride, `high - low` its receptive field. For a convolution or a pooling of
kernel F, stride S, padding P and dilation D:

    N = (W - F + 2P) / S + 1        cells of the output, of W of the input (rounded down; F counts
                                    D (F - 1) + 1)
    jump' = S * jump
    low' = low - P * jump           high' = high + (D (F - 1) - P) * jump

so that the field grows by D (F - 1) * jump (Araujo, Norris and Sim, "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019). The height follows the same rules.

The output of several inputs (a sum, a concatenation) sees what any of them sees. A mean over all
cells, a matrix product and attention see the whole image.

Conventions: a gate, a map times a single cell (squeeze and excitation, arXiv 1709.01507), does not
widen the map's field, though the gate sees the whole image; nor do the statistics of a
normalisation. Interpolation divides the stride and keeps the field.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class ReceptiveField(NamedTuple):
    """The pixels `low` to `high` that cell 0 along the width sees; infinite: the whole image."""

    jump: float = 1.0  # pixels from cell to cell, the stride
    low: float = 0.0
    high: float = 1.0

    @property
    def size(self) -> float:
        """The receptive field's width, pixels."""
        return self.high - self.low

    def window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "ReceptiveField":
        """The field after a convolution or a pooling."""
        low = self.low - padding * self.jump
        high = self.high + (dilation * (kernel - 1) - padding) * self.jump
        return ReceptiveField(self.jump * stride, low, high)

    def whole(self) -> "ReceptiveField":
        """The field after an operation that sees every cell."""
        return ReceptiveField(self.jump, -inf, inf)

    def enlarged(self, factor: float) -> "ReceptiveField":
        """The field after an interpolation to `factor` times the cells, with the same centre."""
        middle = self.jump * (1 - 1 / factor) / 2
        return ReceptiveField(self.jump / factor, self.low - middle, self.high - middle)


def _last(value: int | Sequence[int]) -> int:
    """The entry of the width."""
    return value if isinstance(value, int) else value[-1]


def _convolution(field: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    _, weight, _, stride, padding, dilation, transposed = args[:7]
    kernel, stride = weight.shape[-1], _last(stride)
    if weight.dim() == 3:  # along a sequence, not along the width
        return field
    if transposed:
        return field.window(-(-kernel // stride), 1, 0).enlarged(stride)
    return field.window(kernel, stride, _last(padding), _last(dilation))


def _pooling(field: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    kernel = _last(args[1])
    stride = _last(args[2]) if len(args) > 2 and args[2] else kernel
    padding = _last(args[3]) if len(args) > 3 else 0
    return field.window(kernel, stride, padding)


def _max_pooling(field: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    spread = _last(args[4]) if len(args) > 4 else 1
    plain = _pooling(field, args, out)
    return plain._replace(high=plain.high + (spread - 1) * (_last(args[1]) - 1) * field.jump)


def _adaptive(field: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    return field if args[0].shape[-2:] == out.shape[-2:] else field.whole()


def _reduction(field: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    size = args[0].dim()
    dims = args[1] if len(args) > 1 and args[1] is not None else range(size)
    dims = [dims] if isinstance(dims, int) else dims
    return field if all(dim % size == 1 for dim in dims) else field.whole()  # over the channels


def _padding(field: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    shift = args[1][0] * field.jump
    return ReceptiveField(field.jump, field.low - shift, field.high - shift)


def _slice(field: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    dim, start = (args[1] if len(args) > 1 else 0), (args[2] if len(args) > 2 else 0)
    step = args[4] if len(args) > 4 else 1
    if args[0].dim() != 4 or dim % 4 != 3:
        return field
    shift = (start or 0) * field.jump
    return ReceptiveField(field.jump * step, field.low + shift, field.high + shift)


def _enlargement(field: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    return field.enlarged(out.shape[-1] / args[0].shape[-1])


def _unshuffle(field: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    return field.window(args[1], args[1], 0)


def _shuffle(field: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    return field.enlarged(args[1])


def _everything(field: ReceptiveField, args: Sequence[Any], out: Tensor) -> ReceptiveField:
    return field.whole()


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
    """Follows the receptive field of every tensor computed while it is on, from registered ones."""

    def __init__(self) -> None:
        super().__init__()
        # By id; the tensor is kept, so that its id is not used again.
        self.known: dict[int, tuple[Tensor, ReceptiveField]] = {}

    def register(self, tensor: Tensor, field: ReceptiveField) -> None:
        """Set the receptive field of a tensor from elsewhere: an image's is `ReceptiveField()`."""
        self.known[id(tensor)] = (tensor, field)

    def of(self, tensor: Tensor) -> ReceptiveField | None:
        """The receptive field of a tensor; None if it does not depend on an image."""
        return self.known.get(id(tensor), (None, None))[1]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and register the receptive field of its outputs."""
        out = func(*args, **(kwargs or {}))
        seen = [(x, field) for x in tensors(args) if (field := self.of(x))]
        if not seen:
            return out
        if func.overloadpacket in PRODUCTS:
            seen = _without_gate(seen)
        fields = [field for _, field in seen]
        field = ReceptiveField(
            max(r.jump for r in fields), min(r.low for r in fields), max(r.high for r in fields)
        )
        results = tensors(out if isinstance(out, tuple | list) else [out])
        for tensor in results:
            rule = RULES.get(func.overloadpacket)
            self.register(tensor, rule(field, args, results[0]) if rule else field)
        return out


def tensors(values: Sequence[Any]) -> list[Tensor]:
    """The tensors among arguments, those in lists included."""
    flat = [y for x in values for y in (x if isinstance(x, list | tuple) else [x])]
    return [x for x in flat if isinstance(x, Tensor)]


def _without_gate(seen: list[tuple[Tensor, ReceptiveField]]) -> list[tuple[Tensor, ReceptiveField]]:
    """The factors of a product that are maps, single cells left out; all if none is a map."""
    maps = [(x, field) for x, field in seen if x.dim() == 4 and x.shape[-2:].numel() > 1]
    return maps or seen
