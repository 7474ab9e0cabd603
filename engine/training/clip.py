"""Gradient clipping, in place.

Each call returns the global norm before clipping, and whether anything was clipped, as tensors on
the device.
"""

from collections.abc import Iterable
from math import inf
from typing import ClassVar

import torch
from torch import Tensor, nn

from engine.config.ranges import Positive
from engine.distributed.fsdp import full_tensor
from engine.errors import UserError


def _gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _check_max(limit: float) -> float:
    if not limit > 0:
        raise UserError(f"clip.max={limit}: expected more than 0; clip=none does not clip")
    return limit


class NoClip:
    """Measures the norm, clips nothing."""

    def __call__(self, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Return the global norm of the gradients, and False."""
        norm = full_tensor(torch.nn.utils.get_total_norm(_gradients(parameters)))
        return norm, torch.zeros_like(norm, dtype=torch.bool)


class Value:
    """Clips each element of the gradients to [-max, max]."""

    in_shards: ClassVar[bool] = False  # torch has no maximum of a gradient that is sharded

    def __init__(self, *, max: Positive) -> None:
        self.max = _check_max(max)

    def __call__(self, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Clip; return the norm before, and whether any element was beyond `max`."""
        gradients = _gradients(parameters)
        norm = torch.nn.utils.get_total_norm(gradients)
        largest = torch.nn.utils.get_total_norm(gradients, norm_type=inf)
        torch.nn.utils.clip_grad_value_(parameters, self.max)
        return norm, largest > self.max


class Norm:
    """Scales the gradient of each parameter alone to a norm of at most `max`."""

    def __init__(self, *, max: Positive) -> None:
        self.max = _check_max(max)

    def __call__(self, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Clip; return the global norm before, and whether any gradient's norm was above `max`."""
        norms = full_tensor(torch.stack(torch._foreach_norm(_gradients(parameters))))
        for parameter in parameters:
            torch.nn.utils.clip_grad_norm_(parameter, self.max)
        return norms.norm(), norms.max() > self.max


class GlobalNorm:
    """Scales all gradients by one factor to a global norm of at most `max` (arXiv 1211.5063)."""

    def __init__(self, *, max: Positive) -> None:
        self.max = _check_max(max)

    def __call__(self, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Clip; return the norm before, and whether it was above `max`."""
        norm = full_tensor(torch.nn.utils.clip_grad_norm_(parameters, self.max))
        return norm, norm > self.max
