"""What the networks written here are made of: convolution, normalisation, activation."""

from collections.abc import Callable

from torch import nn

from engine.errors import UserError

ORDERS = ("conv-bn-act", "conv-act-bn")


def conv_block(
    channels: int,
    width: int,
    kernel: int,
    *,
    activation: Callable[[], nn.Module],
    stride: int = 1,
    groups: int = 1,
    order: str = "conv-bn-act",
    dropout: float = 0.0,
    bias: bool = False,
) -> nn.Sequential:
    """One convolution with what follows it; a map's sides are divided by `stride`, rounded up.

    `order` is conv-bn-act or conv-act-bn. `dropout` is the share of whole channels dropped behind
    the block; 0 adds no layer, so that the indices stay those of published weights. `bias` is the
    convolution's; the normalisation behind it has one of its own.
    """
    if order not in ORDERS:
        raise UserError(f"backbone.order={order}: expected {' or '.join(ORDERS)}")
    if not 0 <= dropout < 1:
        raise UserError(f"backbone.dropout={dropout}: expected a share from 0 to below 1")
    conv = nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=bias)
    after = [nn.BatchNorm2d(width), activation()]
    if order == "conv-act-bn":
        after.reverse()
    return nn.Sequential(conv, *after, *([nn.Dropout2d(dropout)] if dropout else []))
