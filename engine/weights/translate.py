"""Detectors of other programs: their files' tensors under our names.

A backbone lists the families of detectors that are built on it, as data; here is what applies them.
Such detectors' class outputs start with one for no class: under a softmax it is the background,
which is last here; under a sigmoid it means nothing, and is left out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from engine.errors import UserError
from engine.structures import Preprocessing

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]  # the first that fits is used
EPS = 1e-5


@dataclass(frozen=True)
class Family:
    """Detectors whose files have the same names of tensors."""

    mark: str  # a tensor that only they have
    rules: Rules  # from their names of tensors to ours: a pattern, and what replaces it
    outputs: str  # a pattern of our names: the tensors of the class outputs
    background: bool  # whether the output for no class is the background, or is left out
    preprocessing: Preprocessing
    classes: Sequence[str]  # of a file with as many class outputs
    # torchvision's name of a classifier -> its detector on top, whose weights load by name too
    published: Mapping[str, str] = field(default_factory=dict)
    without_eps: str | None = None  # the file trained with normalisation that adds 0 to variances


class Detector(NamedTuple):
    """A detector's tensors by our names, the backbone's and the head's."""

    state: dict[str, Tensor]
    preprocessing: Preprocessing
    classes: list[str]


def translate(
    state: Mapping[str, Tensor], path: Path, families: Sequence[Family]
) -> Detector | None:
    """The tensors of a file by our names; None where it is of none of these families."""
    family = next((f for f in families if f.mark in state), None)
    if family is None:
        return None
    ours = {_renamed(key, family.rules): tensor for key, tensor in state.items()}
    outputs = [key for key in ours if re.fullmatch(family.outputs, key)]
    anchors = {key: _anchors(ours, key, path) for key in outputs}
    if not anchors:
        raise UserError(f"{path}: a detector's file without class outputs: it is not whole")
    for key, number in anchors.items():
        ours[key] = _background_last(ours[key], number, family.background)
    if path.name == family.without_eps:
        ours |= _without_eps(ours)
    number = len(ours[outputs[0]]) // anchors[outputs[0]] - family.background
    known = number == len(family.classes)
    classes = list(family.classes) if known else [f"class {i}" for i in range(number)]
    return Detector(ours, family.preprocessing, classes)


def _anchors(state: Mapping[str, Tensor], key: str, path: Path) -> int:
    """The number of anchors of a class output, by its box output of 4 numbers each."""
    boxes = state.get(key.replace("classes", "boxes"))
    number, odd = divmod(len(boxes), 4) if boxes is not None and boxes.ndim else (0, 0)
    if odd or not number or not state[key].ndim or len(state[key]) % number:
        raise UserError(
            f"{path}: a detector's file whose class outputs {key} have no boxes to them"
        )
    return number


def _without_eps(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scales with which normalisation that adds EPS to variances gives what it gives without.

    Variances are left alone: some are so small that taking EPS from them would leave 0.
    """
    scales = {}
    for key in (k for k in state if k.endswith("running_var")):
        name = key.replace("running_var", "weight")
        if name not in state or not state[key].is_floating_point():
            continue  # which is no normalisation, or is refused later
        variance = state[key].clamp(min=1e-30)
        scales[name] = state[name] * ((variance + EPS) / variance).sqrt()
    return scales


def _renamed(key: str, rules: Rules) -> str:
    for pattern, to in rules:
        if match := re.fullmatch(pattern, key):
            return match.expand(to) if isinstance(to, str) else to(match)
    return key


def _background_last(tensor: Tensor, anchors: int, background: bool) -> Tensor:
    """Outputs [n * C, ..] of n anchors, their first class moved to the end or left out."""
    each = tensor.reshape(anchors, -1, *tensor.shape[1:])
    return (each.roll(-1, 1) if background else each[:, 1:]).flatten(0, 1)
