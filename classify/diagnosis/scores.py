"""The scores of images, and whether they can be taken for probabilities."""

import numpy as np

from engine.record import ObjectTable
from engine.report.diagnosis import Chart

BINS = 10


def scores_of(predicted: ObjectTable, images: int, classes: int) -> np.ndarray:
    """Return the score [N, K] of each class for each image, 0 where it is not named."""
    scores = np.zeros((images, classes))
    np.maximum.at(scores, (predicted.image, predicted.labels), predicted.scores)
    return scores


def calibration(scores: np.ndarray, right: np.ndarray, unit: str) -> Chart:
    """Return the reliability diagram of scores [M]; ECE as in arXiv 1706.04599, 10 equal bins."""
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    used = count > 0
    score = np.bincount(place, scores, BINS)[used] / count[used]
    share = np.bincount(place, right, BINS)[used] / count[used]
    error = float((np.abs(score - share) * count[used]).sum() / max(len(scores), 1))
    note = (
        f"Of {unit} of a score, how many are right; on the diagonal scores can be taken for "
        f"probabilities. ECE {error:.3f} (arXiv 1706.04599, {BINS} bins): the mean distance from "
        "it."
    )
    line = (score.tolist(), share.tolist())
    return Chart("Calibration", note, "score", "share that is right", {unit: line}, diagonal=True)
