"""Softmax, information, entropy and cross-entropy of the outputs for one image.

p_i = exp(z_i / T) / sum_j exp(z_j / T); the information of class i is -log2 p_i bits, the entropy
its mean over p, and the cross-entropy of a label its information in nats, -ln p: what
`loss=cross_entropy` makes small. The likelihood of the labels of several examples is the product of
their p; the sum of their cross-entropies is its negative logarithm.
"""

import numpy as np

from engine.explain.explanation import Explanation, new_figure

TEMPERATURES = (0.5, 1.0, 2.0, 5.0)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities of the last axis; they sum to 1."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))  # the largest is 1: none overflows
    return powers / powers.sum(-1, keepdims=True)


def entropy(p: np.ndarray) -> float:
    """Bits that a draw from the distribution tells on average; 0 log 0 is 0."""
    return float(0 - sum(each * np.log2(each) for each in p if each > 0))


def explain(logits: list[float]) -> Explanation:
    """Probability, information and cross-entropy of each class; the entropy by temperature."""
    p = softmax(np.array(logits, float))
    rows = [
        {"class": i, "output": z, "p": float(q), "bits": float(0 - np.log2(q)),
         "cross-entropy": float(0 - np.log(q))}
        for i, (z, q) in enumerate(zip(logits, p, strict=True))
    ]  # fmt: skip
    lines = [f"entropy: {entropy(p):.4f} bits of {np.log2(len(p)):.4f} at most", *_likelihood(p)]
    return Explanation(rows, _figure(np.array(logits, float)), lines)


def likelihood(p: np.ndarray, labels: list[int]) -> float:
    """Probability of all labels together, of examples that each have the probabilities p [K]."""
    return float(np.prod(p[labels]))


def _likelihood(p: np.ndarray) -> list[str]:
    """The likelihood of three examples, as a product and by the sum of their cross-entropies."""
    first, second = np.argsort(-p, kind="stable")[:2].tolist()
    labels = [first, first, second]
    factors = " x ".join(f"{each:.4f}" for each in p[labels])
    nats = 0 - np.log(p[labels])
    terms = " + ".join(f"{each:.4f}" for each in nats)
    return [
        f"three examples with these outputs and the labels {', '.join(map(str, labels))}:",
        f"likelihood: {factors} = {likelihood(p, labels):.6f}",
        f"exp(-({terms})) = exp(-{nats.sum():.4f}) = {np.exp(-nats.sum()):.6f}",
    ]


def _figure(logits: np.ndarray):
    figure = new_figure(8, 3.5)
    bars, curve = figure.subplots(1, 2)
    places, width = np.arange(len(logits)), 0.8 / len(TEMPERATURES)
    for i, temperature in enumerate(TEMPERATURES):
        p = softmax(logits, temperature)
        label = f"T = {temperature:g}, {entropy(p):.2f} bits"
        bars.bar(places + i * width, p, width, label=label)
    bars.set(xlabel="class", ylabel="probability", title="softmax by temperature")
    bars.set_xticks(places + 1.5 * width, map(str, places))
    bars.legend(fontsize=8)
    p = np.linspace(0.005, 1, 200)
    curve.plot(p, -np.log(p))
    curve.set(xlabel="probability of the label", ylabel="nats", title="cross-entropy -ln p")
    return figure
