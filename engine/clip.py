"""Gradient clipping. Each call clips in place and returns the global norm before, on the device."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from engine.errors import UserError


def _gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _checked(limit: float) -> float:
    if not limit > 0:
        raise UserError(f"clip.max={limit}: expected more than 0; clip=none does not clip")
    return limit


class NoClip:
    """Only measure."""

    def __call__(self, parameters: list[nn.Parameter]) -> Tensor:
        """The global norm of the gradients."""
        return torch.nn.utils.get_total_norm(_gradients(parameters))


class Value:
    """Each element into [-max, max]."""

    def __init__(self, *, max: float) -> None:
        self.max = _checked(max)

    def __call__(self, parameters: list[nn.Parameter]) -> Tensor:
        """Clip, return the norm before."""
        norm = torch.nn.utils.get_total_norm(_gradients(parameters))
        torch.nn.utils.clip_grad_value_(parameters, self.max)
        return norm


class Norm:
    """Each parameter's own gradient to a norm of at most `max`."""

    def __init__(self, *, max: float) -> None:
        self.max = _checked(max)

    def __call__(self, parameters: list[nn.Parameter]) -> Tensor:
        """Clip, return the global norm before."""
        norm = torch.nn.utils.get_total_norm(_gradients(parameters))
        for parameter in parameters:
            torch.nn.utils.clip_grad_norm_(parameter, self.max)
        return norm


class GlobalNorm:
    """All gradients together to a norm of at most `max` (arXiv 1211.5063)."""

    def __init__(self, *, max: float) -> None:
        self.max = _checked(max)

    def __call__(self, parameters: list[nn.Parameter]) -> Tensor:
        """Clip, return the norm before."""
        return torch.nn.utils.clip_grad_norm_(parameters, self.max)
