"""How large the gradient is at each layer of a deep stack: where it vanishes, where it explodes.

Backward, each layer multiplies the gradient by its slope and its weights. A sigmoid's slope is a
quarter at most; He's weights (arXiv 1502.01852, section 2.2) keep a ReLU's signal both ways; batch
normalisation alone makes the gradient larger by about sqrt(pi / (pi - 1)) = 1.21 a layer
(arXiv 1902.08129); ResNet's block (arXiv 1512.03385) adds the layer to what came in.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.explain.explanation import Explanation, new_figure

WIDTH, IMAGES, CLASSES = 64, 256, 10  # numbers of a layer, inputs, and what the last layer tells


@dataclass(frozen=True)
class Kind:
    """A kind of layer; `gain` times 1 / sqrt(WIDTH) is the deviation of its first weights."""

    name: str
    gain: float = 2**0.5  # He's
    sigmoid: bool = False
    norm: bool = False
    shortcut: bool = False


KINDS = (
    Kind("sigmoid", gain=1.0, sigmoid=True),
    Kind("ReLU", gain=2**0.5),
    Kind("ReLU, weights x 2", gain=2 * 2**0.5),
    Kind("ReLU + shortcut", shortcut=True),
    Kind("ReLU + BatchNorm", norm=True),
    Kind("ReLU + BatchNorm + shortcut", norm=True, shortcut=True),
)


class Layer(nn.Module):
    """activation(input + norm(weights x input)), without what its kind leaves out."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.linear = nn.Linear(WIDTH, WIDTH)
        nn.init.normal_(self.linear.weight, std=kind.gain / WIDTH**0.5)
        nn.init.zeros_(self.linear.bias)
        self.norm = nn.BatchNorm1d(WIDTH) if kind.norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, WIDTH] of [N, WIDTH]."""
        y = self.norm(self.linear(x))
        y = x + y if self.kind.shortcut else y
        return y.sigmoid() if self.kind.sigmoid else y.relu()


def gradient_norms(kind: Kind, depth: int, seed: int) -> tuple[list[float], list[float]]:
    """Norms of the loss's gradient at each layer's output and at its weights, from the first on.

    Inputs are normal, labels random, the loss is cross-entropy after one more linear layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x, labels = torch.randn(IMAGES, WIDTH), torch.randint(CLASSES, (IMAGES,))
        layers, last = [Layer(kind).double() for _ in range(depth)], nn.Linear(WIDTH, CLASSES)
    outputs, signal = [], x.double()
    for layer in layers:
        signal = layer(signal)
        signal.retain_grad()
        outputs.append(signal)
    nn.functional.cross_entropy(last.double()(signal), labels).backward()
    weights = [layer.linear.weight for layer in layers]
    return _norms(outputs), _norms(weights)


def _norms(tensors: list[Tensor]) -> list[float]:
    return [float(x.grad.norm()) for x in tensors if x.grad is not None]


def explain(depth: int, seed: int) -> Explanation:
    """The gradient at the first and at the last layer of each kind of stack."""
    found = {kind.name: gradient_norms(kind, depth, seed) for kind in KINDS}
    rows = [
        {"stack": name, "at layer 1": outputs[0], f"at layer {depth}": outputs[-1],
         "ratio": _ratio(outputs), "a layer": _ratio(outputs) ** (1 / (depth - 1)),
         "weights of layer 1": weights[0]}
        for name, (outputs, weights) in found.items()
    ]  # fmt: skip
    lines = [f"{depth - 1} slopes of 1/4, a sigmoid's at most: {0.25 ** (depth - 1):.3g}"]
    return Explanation(rows, _figure(found), lines)


def _ratio(norms: list[float]) -> float:
    return norms[0] / norms[-1] if norms[-1] else float("nan")


def _figure(found: dict[str, tuple[list[float], list[float]]]):
    figure = new_figure(8, 5)
    axes = figure.subplots(1, 2, sharey=True)
    titles = ("at the layer's output", "at the layer's weights")
    for side, (panel, title) in enumerate(zip(axes, titles, strict=True)):
        for name, norms in found.items():
            panel.semilogy(range(1, len(norms[side]) + 1), norms[side], ".-", label=name)
        panel.set(xlabel="layer, the input's first", title=title)
        panel.grid(alpha=0.25)
    axes[0].set_ylabel("norm of the gradient")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, ncols=3,
                  loc="outside lower center")  # fmt: skip
    return figure
