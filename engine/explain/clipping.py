"""Gradients before and after clipping by value, by the norm of each tensor and by the global norm.

The classes are those of `clip=value`, `clip=norm` and `clip=global_norm`, so what is shown is what
trains. One factor for all tensors keeps the direction of the step (arXiv 1211.5063, algorithm 1).
"""

import math
from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from engine.config.ranges import Length, Range, check_value
from engine.errors import UserError
from engine.explain.explanation import Explanation, new_figure
from engine.training.clip import GlobalNorm, NoClip, Norm, Value

Numbers = Annotated[list[Annotated[float, Range(-1000, 1000)]], Length(1, 8)]
Clip = Callable[[list[nn.Parameter]], Any]


def clipped(gradients: list[list[float]], clip: Clip) -> list[Tensor]:
    """The gradients after clipping, in float64; of one tensor each."""
    parameters = []
    for numbers in gradients:
        parameter = nn.Parameter(torch.zeros(len(numbers), dtype=torch.float64))
        parameter.grad = torch.tensor(numbers, dtype=torch.float64)
        parameters.append(parameter)
    clip(parameters)
    return [parameter.grad for parameter in parameters]


def turned(before: list[Tensor], after: list[Tensor]) -> float:
    """Degrees between the step before clipping and after."""
    a, b = torch.cat(before), torch.cat(after)
    return math.degrees(2 * math.atan2(*_half_angle(a / a.norm(), b / b.norm())))


def _half_angle(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Of two unit vectors; exact where they are equal, unlike an arc cosine."""
    return float((a - b).norm()), float((a + b).norm())


def explain(gradients: list[list[float]], max: float) -> Explanation:
    """The tensors, their norms and how far the step is turned, by each way of clipping."""
    check_value(gradients, list[Numbers], "gradients")  # OmegaConf takes no [[3]] for numbers
    if not all(map(any, gradients)):
        raise UserError(f"gradients={gradients}: expected a number other than 0 in each")
    ways: dict[str, Clip] = {
        "none": NoClip(), "value": Value(max=max), "norm": Norm(max=max),
        "global_norm": GlobalNorm(max=max),
    }  # fmt: skip
    found = {name: clipped(gradients, clip) for name, clip in ways.items()}
    rows = [
        {"clip": name, **{f"gradient {i}": _text(x) for i, x in enumerate(tensors, 1)},
         "norms": _text(torch.stack([x.norm() for x in tensors])),
         "global norm": float(torch.cat(tensors).norm()),
         "turned by": f"{turned(found['none'], tensors):.1f} degrees"}
        for name, tensors in found.items()
    ]  # fmt: skip
    return Explanation(rows, _figure(found, max), [f"clip.max={max:g}"])


def _text(numbers: Tensor) -> str:
    return " ".join(f"{round(x, 4):g}" for x in numbers.tolist())


def _figure(found: dict[str, list[Tensor]], most: float):
    figure = new_figure(8, 3.8)
    elements, norms = figure.subplots(1, 2)
    for place, (name, tensors) in enumerate(found.items()):
        _bars(elements, place, name, torch.cat(tensors))
        each = torch.stack([x.norm() for x in tensors])
        _bars(norms, place, name, torch.cat([each, each.norm()[None]]))
    first = found["none"]
    names = [f"{i}.{j}" for i, x in enumerate(first, 1) for j in range(1, len(x) + 1)]
    elements.set_xticks([i + 0.3 for i in range(len(names))], names)
    elements.set(xlabel="gradient and element", title="each element")
    names = [f"gradient {i}" for i in range(1, len(first) + 1)] + ["all"]
    norms.set_xticks([i + 0.3 for i in range(len(names))], names)
    norms.set_title("norms")
    for axes in (elements, norms):
        axes.axhline(most, color="#999999", linewidth=0.8, linestyle="--", label="clip.max")
    if any((x < 0).any() for x in first):
        elements.axhline(-most, color="#999999", linewidth=0.8, linestyle="--")
    elements.legend(fontsize=8)
    return figure


def _bars(axes: Any, place: int, name: str, heights: Tensor) -> None:
    axes.bar([i + 0.2 * place for i in range(len(heights))], heights.tolist(), 0.2, label=name)
