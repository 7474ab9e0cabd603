"""Gradient clipping, in place.

Each call returns the global norm before, and whether anything was clipped, both on the device.
"""

from collections.abc import Iterable
from math import inf
from typing import ClassVar

import torch
from torch import Tensor, nn

from engine.distributed.fsdp import full
from engine.errors import UserError


def _gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _checked(limit: float) -> float:
    if not limit > 0:
        raise UserError(f"clip.max={limit}: expected more than 0; clip=none does not clip")
    return limit


class NoClip:
    """Only measure."""

    def __call__(self, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """The global norm of the gradients; nothing is clipped."""
        norm = full(torch.nn.utils.get_total_norm(_gradients(parameters)))
        return norm, torch.zeros_like(norm, dtype=torch.bool)


class Value:
    """Each element into [-max, max]."""

    in_shards: ClassVar[bool] = False  # torch has no largest element of a gradient in slices

    def __init__(self, *, max: float) -> None:
        self.max = _checked(max)

    def __call__(self, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Clip; the norm before, and whether any element was too large."""
        gradients = _gradients(parameters)
        norm = torch.nn.utils.get_total_norm(gradients)
        largest = torch.nn.utils.get_total_norm(gradients, norm_type=inf)
        torch.nn.utils.clip_grad_value_(parameters, self.max)
        return norm, largest > self.max


class Norm:
    """Each parameter's own gradient to a norm of at most `max`."""

    def __init__(self, *, max: float) -> None:
        self.max = _checked(max)

    def __call__(self, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Clip; the global norm before, and whether any parameter's own was too large."""
        norms = full(torch.stack(torch._foreach_norm(_gradients(parameters))))
        for parameter in parameters:
            torch.nn.utils.clip_grad_norm_(parameter, self.max)
        return norms.norm(), norms.max() > self.max


class GlobalNorm:
    """All gradients together to a norm of at most `max` (arXiv 1211.5063)."""

    def __init__(self, *, max: float) -> None:
        self.max = _checked(max)

    def __call__(self, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Clip; the norm before, and whether it was too large."""
        norm = full(torch.nn.utils.clip_grad_norm_(parameters, self.max))
        return norm, norm > self.max
