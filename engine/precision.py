"""The number format of the forward pass, and what it needs around it."""

import torch

from engine.config import Precision
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
