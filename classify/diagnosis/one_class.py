"""Whether predictions of several classes are all of one."""

from collections.abc import Sequence

import numpy as np

from engine.finding import Finding

FEWEST = 8  # predictions below which they can be of one class by chance
ALL = 0.98  # of the predictions: a stray one changes nothing
MOST = 0.8  # of the truth: where a class has that much, an answer of it alone is nearly right


def one_class(
    classes: Sequence[str], predicted: np.ndarray, true: np.ndarray, what: str
) -> list[Finding]:
    """Return that one class takes all predictions, which it has not in the truth.

    Args:
        classes: K names.
        predicted: [N] labels.
        true: [M] labels.
        what: is predicted, in the plural: images, detections.
    """
    if len(predicted) < FEWEST or not len(true):
        return []
    counts = np.bincount(predicted, minlength=len(classes))
    first, share = int(counts.argmax()), counts.max() / len(predicted)
    owned = (true == first).mean()
    if share < ALL or owned >= MOST:
        return []
    return [
        Finding(
            f"one class takes all: {share:.0%} of {len(predicted)} {what} are '{classes[first]}', "
            f"{owned:.0%} of the truth is",
            "train longer (trainer.epochs), lower optimizer.lr, or add images of the others "
            "(dataset.root)",
        )
    ]
