"""The focal loss -(1 - p)^gamma ln p (arXiv 1708.02002, 3.2 and figure 1) beside cross-entropy.

p is what the network says of the right answer. The numbers are those of `classify.losses.Focal`,
which trains, with alpha left out.
"""

import numpy as np
import torch

from classify.losses import Focal
from engine.explain.explanation import Explanation, new_figure

TABLE = (0.1, 0.5, 0.9, 0.968)  # the last two are the paper's
CURVE = np.linspace(0.01, 0.99, 99)


def focal(p: float, gamma: float) -> float:
    """The loss of a slot whose right answer has the probability p, by the logit that gives p."""
    loss = Focal(gamma=gamma, alpha=None)
    logit = torch.tensor(p, dtype=torch.float64).logit().view(1, 1, 1)
    label = torch.zeros(1, 1, dtype=torch.long)
    return loss.total(logit, label, 1.0).item()


def explain(gammas: list[float]) -> Explanation:
    """The loss at some p for each gamma, and how many times less it is than cross-entropy."""
    rows = [
        {"p": p, "cross-entropy": focal(p, 0)}
        | {f"gamma {gamma:g}": focal(p, gamma) for gamma in gammas}
        for p in TABLE
    ]
    lines = ["cross-entropy / focal loss at p = " + ", ".join(map(str, TABLE)) + ":"]
    for gamma in gammas:
        ratios = (row["cross-entropy"] / row[f"gamma {gamma:g}"] for row in rows)
        lines.append(f"gamma {gamma:g}: " + ", ".join(f"{ratio:.4g}" for ratio in ratios))
    return Explanation(rows, _figure(gammas), lines)


def _figure(gammas: list[float]):
    figure = new_figure(8, 3.6)
    linear, log = figure.subplots(1, 2)
    for gamma in gammas:
        loss = [focal(p, gamma) for p in CURVE]
        linear.plot(CURVE, loss, label=f"gamma = {gamma:g}")
        log.semilogy(CURVE, loss)
    linear.set(xlabel="p, probability of the right answer", ylabel="loss", title="focal loss",
               ylim=(0, 5))  # fmt: skip
    log.set(xlabel="p, probability of the right answer", title="the same, logarithmic",
            ylim=(1e-6, 10))  # fmt: skip
    log.grid(alpha=0.3)
    linear.legend(fontsize=8)
    return figure
