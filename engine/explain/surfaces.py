"""Surfaces of two weights that `topic=optimizers` walks down: height, gradient, start, minimum."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Surface:
    """A loss of two weights.

    Args:
        formula: as the title of a figure has it.
        height: of a point (x, y); of arrays too.
        gradient: [2] at a point [2].
        start: where each path begins.
        minimum: where the height is 0.
        extent: x from, x to, y from, y to; the part that is drawn.
    """

    formula: str
    height: Callable[..., np.ndarray]
    gradient: Callable[[np.ndarray], np.ndarray]
    start: tuple[float, float]
    minimum: tuple[float, float]
    extent: tuple[float, float, float, float]


def _valley(x, y):
    return x**2 / 100 + y**2


def _valley_gradient(at: np.ndarray) -> np.ndarray:
    x, y = at
    return np.array([x / 50, 2 * y])


def _diagonal(x, y):
    """The valley turned by half a right angle: each gradient now has parts of both slopes."""
    return _valley((x + y) / 2**0.5, (y - x) / 2**0.5)


def _diagonal_gradient(at: np.ndarray) -> np.ndarray:
    x, y = at
    along, across = _valley_gradient(np.array([x + y, y - x]) / 2**0.5)
    return np.array([along - across, along + across]) / 2**0.5


def _beale(x, y):
    """Beale's function, a test of optimizers since 1958."""
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _beale_gradient(at: np.ndarray) -> np.ndarray:
    x, y = at
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    by_x = 2 * (a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1))
    by_y = 2 * x * (a + 2 * b * y + 3 * c * y**2)
    return np.array([by_x, by_y])


SURFACES = {
    "valley": Surface(
        "x²/100 + y²", _valley, _valley_gradient, (-9.0, 2.0), (0.0, 0.0), (-10, 4, -2.6, 2.6)
    ),
    "diagonal": Surface(
        "(x + y)²/200 + (y - x)²/2", _diagonal, _diagonal_gradient, (-7.5, -5.0), (0.0, 0.0),
        (-10, 4, -9, 3),
    ),
    "beale": Surface(
        "Beale's function", _beale, _beale_gradient, (1.0, 1.5), (3.0, 0.5), (-0.5, 4.5, -1.5, 2)
    ),
}  # fmt: skip
