"""The sum of the focal loss (arXiv 1708.02002, 3) and its gradient in one pass over the logits.

A slot misses a class by the logit m of 1 - p_t: the logit itself, or its negative where the slot
has the class. With s = softplus(m) = -log(p_t) and p = sigmoid(m) = 1 - p_t, the loss is
s p ** gamma and its gradient by m is p ** gamma (p + gamma s (1 - p)): both of the same numbers, so
that they are made together, some logits at a time, which stay in a CPU's cache.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CACHED = 1 << 15  # logits at a time on a CPU


def focal_sum(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor,
    class_weights: Tensor | None,
    *,
    gamma: float,
    alpha: float | None,
) -> Tensor:
    """The loss, summed over slots and classes; a scalar.

    Args:
        logits: [B, A, C].
        labels: [B, A]; below 0 a slot has no class.
        weight: [B, A], of the slots.
        class_weights: [C], or None.
        gamma: see `classify.losses.Focal`.
        alpha: weight of the positives, 1 - alpha of the negatives; None for neither.
    """
    factors = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    rows = _rows(labels.flatten())  # [P]
    label = labels.flatten()[rows]
    place = rows * logits.shape[-1] + label.clamp(min=0)
    own = weight.flatten()[rows] * (label >= 0)
    if class_weights is not None:
        own = own * class_weights[label.clamp(min=0)]
    return _FocalSum.apply(  # type: ignore[return-value]
        logits, place, label >= 0, own, weight.flatten(), class_weights, gamma, *factors
    )


def _rows(labels: Tensor) -> Tensor:
    """The slots that may have a class: on a CPU those that do, else all, which needs no wait."""
    if labels.device.type != "cpu":
        return torch.arange(len(labels), device=labels.device)
    return (labels >= 0).nonzero()[:, 0]


class _FocalSum(torch.autograd.Function):
    """`focal_sum`; the classes that slots have are counted with all others, then set right."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,  # [B, A, C]
        place: Tensor,  # [P], where a slot's class is in the flattened logits
        has_class: Tensor,  # [P]
        own: Tensor,  # [P], its weight; 0 without a class
        weight: Tensor,  # [N], of the slots
        class_weights: Tensor | None,
        gamma: float,
        positive: float,
        negative: float,
    ) -> Tensor:
        miss = logits.flatten(0, 1).clone()  # [N, C]; becomes the gradient
        flat = miss.view(-1)
        of_class = torch.where(has_class, -flat[place], flat[place])  # [P]
        flat[place] = of_class
        total = negative * _replace(miss, weight * negative, class_weights, gamma).dot(weight)
        loss, slope = _terms(of_class, gamma)
        flat[place] = torch.where(has_class, -positive * own * slope, flat[place])
        ctx.save_for_backward(miss)
        ctx.shape = logits.shape
        return total + (positive - negative) * loss.dot(own)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0]).view(ctx.shape), *[None] * 8


def _replace(miss: Tensor, scale: Tensor, class_weights: Tensor | None, gamma: float) -> Tensor:
    """Replace logits [N, C] by their gradient times `scale` [N]; returns each row's loss [N]."""
    sums = torch.empty_like(scale)
    step = max(1, CACHED // miss.shape[1] if miss.device.type == "cpu" else len(miss))
    for m, sum_of, factor in zip(*(x.split(step) for x in (miss, sums, scale)), strict=True):
        loss, slope = _terms(m, gamma)
        if class_weights is not None:
            loss, slope = loss * class_weights, slope * class_weights
        torch.sum(loss, 1, out=sum_of)
        torch.mul(slope, factor[:, None], out=m)
    return sums


def _terms(miss: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """The loss of each logit, and its gradient by it."""
    p, s = miss.sigmoid(), _softplus(miss)
    power = p.square() if gamma == 2 else p.pow(gamma)
    loss = s.mul_(power)
    return loss, power.mul_(p).addcmul_(loss, 1 - p, value=gamma)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)); on a CPU torch's log1p, of which its own is made, takes 8 times its log."""
    if x.device.type != "cpu":
        return F.softplus(x)
    small = x.abs().neg_().exp_()  # 0..1
    whole = small + 1
    lost = small.sub_(whole - 1)  # by rounding; log(1 + t) = log(u) + (t - (u - 1)) / u to float32
    return whole.log().add_(lost.div_(whole)).add_(x.clamp(min=0))
