"""How SGD, momentum, Nesterov, RMSprop, Adam and AdamW walk down a surface of two weights.

Each rule is written out below, w the weights, g the gradient there and m what it keeps from step to
step; the tests hold each to the path of torch.optim's, which trains. Momentum as torch has it: the
learning rate stands outside of v. Nesterov: Sutskever et al. 2013, as torch rewrites it. Adam:
arXiv 1412.6980, algorithm 1. AdamW: arXiv 1711.05101, algorithm 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import UserError, did_you_mean
from engine.explain.explanation import Explanation, new_figure
from engine.explain.surfaces import SURFACES, Surface

NEAR = 0.01  # the height that counts as arrived
EPSILON = 1e-8
DECAY = 0.05  # of AdamW's weights, times the learning rate, as in optimizer=adamw
RATES = (0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 0.7)


@dataclass
class Memory:
    """What an optimizer keeps from step to step, [2] each."""

    v: Any = 0.0  # of the gradients
    s: Any = 0.0  # of their squares
    t: int = 0  # steps so far


def sgd(w: np.ndarray, g: np.ndarray, m: Memory, lr: float) -> np.ndarray:
    """Straight down the slope."""
    return w - lr * g


def momentum(w: np.ndarray, g: np.ndarray, m: Memory, lr: float) -> np.ndarray:
    """A ball that rolls: nine tenths of the last step go on."""
    m.v = 0.9 * m.v + g
    return w - lr * m.v


def nesterov(w: np.ndarray, g: np.ndarray, m: Memory, lr: float) -> np.ndarray:
    """The ball looks ahead, to where its momentum takes it."""
    m.v = 0.9 * m.v + g
    return w - lr * (g + 0.9 * m.v)


def rmsprop(w: np.ndarray, g: np.ndarray, m: Memory, lr: float) -> np.ndarray:
    """Each weight's step over the usual size of its own gradient."""
    m.s = 0.99 * m.s + 0.01 * g**2
    return w - lr * g / (np.sqrt(m.s) + EPSILON)


def adam(w: np.ndarray, g: np.ndarray, m: Memory, lr: float) -> np.ndarray:
    """Both, and both averages corrected for having begun at 0."""
    m.t += 1
    m.v = 0.9 * m.v + 0.1 * g
    m.s = 0.999 * m.s + 0.001 * g**2
    v, s = m.v / (1 - 0.9**m.t), m.s / (1 - 0.999**m.t)
    return w - lr * v / (np.sqrt(s) + EPSILON)


def adamw(w: np.ndarray, g: np.ndarray, m: Memory, lr: float) -> np.ndarray:
    """Adam; the weights decay beside the gradient, not through it."""
    return adam(w - lr * DECAY * w, g, m, lr)


RULES = {rule.__name__: rule for rule in (sgd, momentum, nesterov, rmsprop, adam, adamw)}


def path(rule: Callable[..., np.ndarray], surface: Surface, lr: float, steps: int) -> np.ndarray:
    """The points [steps + 1, 2] from the surface's start on."""
    points, memory = [np.array(surface.start)], Memory()
    for _ in range(steps):
        w = points[-1]
        points.append(rule(w, surface.gradient(w), memory, lr))
    return np.array(points)


def best_rate(rule: Callable[..., np.ndarray], surface: Surface, steps: int) -> float:
    """The learning rate of RATES with which it arrives first; of equal ones, ends lowest."""

    def cost(lr: float) -> tuple[float, float]:
        heights = surface.height(*path(rule, surface, lr, steps).T)
        end = heights[-1] if np.isfinite(heights[-1]) else np.inf
        return _arrival(heights) or np.inf, end

    return min(RATES, key=cost)


def explain(surface: str, steps: int, lr: float | None) -> Explanation:
    """Where each optimizer is after so many steps, and when it arrived."""
    if surface not in SURFACES:
        hint = did_you_mean(surface, list(SURFACES))
        raise UserError(f"surface={surface}: expected {' or '.join(SURFACES)}{hint}")
    ground = SURFACES[surface]
    with np.errstate(over="ignore", invalid="ignore"):  # a rate that is too large
        rates = {name: lr or best_rate(rule, ground, steps) for name, rule in RULES.items()}
        paths = {name: path(rule, ground, rates[name], steps) for name, rule in RULES.items()}
        heights = {name: ground.height(*points.T) for name, points in paths.items()}
    rows = [
        {"optimizer": name, "lr": rates[name], f"steps to {NEAR}": _arrival(heights[name]) or "-",
         "height at the end": float(heights[name][-1]), "x": float(points[-1, 0]),
         "y": float(points[-1, 1])}
        for name, points in paths.items()
    ]  # fmt: skip
    x, y = ground.start
    first = f"; each lr is the one of {len(RATES)} that arrives first" if lr is None else ""
    lines = [
        f"{ground.formula}: {steps} steps from ({x:g}, {y:g}), height {ground.height(x, y):.4g}",
        f"minimum: 0 at ({ground.minimum[0]:g}, {ground.minimum[1]:g}){first}",
    ]
    return Explanation(rows, _figure(ground, paths, heights), lines)


def _arrival(heights: np.ndarray) -> int | None:
    """The first step from which on the height stays at NEAR or below; None if it does not."""
    away = np.flatnonzero(~(heights <= NEAR))
    first = int(away[-1]) + 1 if len(away) else 0
    return first if first < len(heights) else None


def _figure(surface: Surface, paths: dict[str, np.ndarray], heights: dict[str, np.ndarray]):
    figure = new_figure(8, 6.4)
    ground, curve = figure.subplots(2, 1, height_ratios=[1.3, 1])
    _draw_ground(ground, surface)
    for name, points in paths.items():
        near = np.abs(points).max(1) < 1e6  # the rest of a path that leaves the image
        ground.plot(*points[near].T, ".-", markersize=3, linewidth=1, label=name)
        above = np.where(heights[name] > 1e-12, heights[name], np.nan)
        curve.semilogy(np.where(near, above, np.nan), linewidth=1.2, label=name)
    ground.legend(fontsize=8, loc="upper right")
    curve.axhline(NEAR, color="#999999", linewidth=0.8)
    curve.set(xlabel="step", ylabel="height", title="the height on the way down")
    curve.grid(alpha=0.25)
    return figure


def _draw_ground(axes: Any, surface: Surface) -> None:
    left, right, low, high = surface.extent
    x, y = np.meshgrid(np.linspace(left, right, 200), np.linspace(low, high, 200))
    z = surface.height(x, y)
    levels = np.geomspace(NEAR, z.max(), 9)
    axes.contour(x, y, z, levels, colors="#999999", linewidths=0.6)
    axes.plot(*surface.minimum, "k*", markersize=12)
    axes.plot(*surface.start, "ko", markersize=6)
    axes.set(xlim=(left, right), ylim=(low, high), xlabel="weight x", ylabel="weight y",
             title=f"{surface.formula}: from the point to the star")  # fmt: skip
