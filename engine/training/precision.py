"""The number format of the forward pass: which one, its autocast, and a fix that bf16 needs."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from engine.config.schema import Precision
from engine.errors import UserError

DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}


def resolve(wanted: Precision, device: torch.device) -> Precision:
    """Return the precision to use on this device: `auto` is resolved, all others are returned.

    Sets torch's switches so that a GPU multiplies float32 in TF32 for tf32 alone; by default its
    convolutions always do.

    Raises:
        UserError: fp16 on the CPU, where its narrow range needs a scaler and it is no faster; tf32
            on another device than cuda.
    """
    if wanted is Precision.fp16 and device.type == "cpu":
        raise UserError("trainer.precision=fp16: not on the cpu; use bf16, fp32 or auto")
    if wanted is Precision.tf32 and device.type != "cuda":
        raise UserError(f"trainer.precision=tf32: not on {device.type}; use fp32, bf16 or auto")
    # torch.export reads these older switches, and fails once one of the newer ones was set
    torch.backends.cuda.matmul.allow_tf32 = wanted is Precision.tf32
    torch.backends.cudnn.allow_tf32 = wanted is Precision.tf32
    if wanted is not Precision.auto:
        return wanted
    if device.type == "cuda":
        return Precision.bf16 if torch.cuda.is_bf16_supported() else Precision.fp16
    # A CPU without instructions for bf16 emulates them, and is slower than in fp32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return Precision.bf16 if device.type == "cpu" and native else Precision.fp32


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context manager of a forward pass."""
    return torch.autocast(device.type, DTYPES.get(precision), enabled=precision in DTYPES)


def widen(network: nn.Module) -> None:
    """Make 3x3 convolutions of stride 2 pad a feature map one cell wide to two cells, with a zero.

    Their output is the same, since their padding is zero too. It avoids a bug of torch 2.14: in
    bf16 on a CPU the gradient of their weights over such a map is garbage, often finite.
    """
    for module in network.modules():
        shape = (3, 3), (2, 2), (1, 1)
        if isinstance(module, nn.Conv2d) and shape == (
            module.kernel_size, module.stride, module.padding
        ):  # fmt: skip
            module.register_forward_pre_hook(_pad_width)


def _pad_width(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
    return (pad(args[0], (0, 1)),) if args[0].shape[-1] == 1 else None
