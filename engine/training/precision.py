"""The number format of the forward pass, and what it needs around it."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from engine.config.schema import Precision
from engine.errors import UserError

DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}


def resolve(wanted: Precision, device: torch.device) -> Precision:
    """What `auto` means on this device; the others as they are.

    From here on a GPU rounds the products of float32 for tf32, and for no other: torch by itself
    lets convolutions do so.

    Raises:
        UserError: fp16 on the CPU, whose narrow range would need a scaler and gain nothing; tf32
            where there is none.
    """
    if wanted is Precision.fp16 and device.type == "cpu":
        raise UserError("trainer.precision=fp16: not on the cpu; use bf16, fp32 or auto")
    if wanted is Precision.tf32 and device.type != "cuda":
        raise UserError(f"trainer.precision=tf32: not on {device.type}; use fp32, bf16 or auto")
    rounded = "tf32" if wanted is Precision.tf32 else "ieee"
    torch.backends.cuda.matmul.fp32_precision = rounded
    torch.backends.cudnn.conv.fp32_precision = rounded  # type: ignore[attr-defined]
    if wanted is not Precision.auto:
        return wanted
    if device.type == "cuda":
        return Precision.bf16 if torch.cuda.is_bf16_supported() else Precision.fp16
    # A CPU without bf16 products of its own emulates them, and is slower than in fp32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return Precision.bf16 if device.type == "cpu" and native else Precision.fp32


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context of a forward pass."""
    return torch.autocast(device.type, DTYPES.get(precision), enabled=precision in DTYPES)


def widen(network: nn.Module) -> None:
    """Have convolutions of stride 2 see a map one cell wide as two, the second of zeros.

    It is what their padding says already, so nothing changes but this: in bf16 on a CPU (torch
    2.14) the gradient of their weights over such a map is garbage, often finite.
    """
    for module in network.modules():
        shape = (3, 3), (2, 2), (1, 1)
        if isinstance(module, nn.Conv2d) and shape == (
            module.kernel_size, module.stride, module.padding
        ):  # fmt: skip
            module.register_forward_pre_hook(_widened)


def _widened(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
    return (pad(args[0], (0, 1)),) if args[0].shape[-1] == 1 else None
