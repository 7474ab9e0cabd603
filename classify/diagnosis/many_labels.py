"""Of images with any number of labels."""

from collections.abc import Mapping, Sequence

import numpy as np

from classify.diagnosis.scores import calibration, scores_of
from engine.record import ObjectTable
from engine.report.diagnosis import (
    DRAWN,
    THRESHOLDS,
    Chart,
    Diagnosis,
    Live,
    Table,
    best_threshold,
    counts_at,
)


def diagnose_many_labels(
    classes: Sequence[str],
    predicted: ObjectTable,
    true: ObjectTable,
    images: int,
    numbers: Mapping[str, float],
) -> Diagnosis:
    """Diagnose the classes of images with any number of labels; arguments as for one label."""
    size = len(classes)
    scores = scores_of(predicted, images, size)  # [N, K]
    present, counts = np.zeros((images, size), bool), np.ones((images, size), bool)
    counts[true.image[true.ignore], true.labels[true.ignore]] = False
    present[true.image[~true.ignore], true.labels[~true.ignore]] = True
    counts |= present
    image, label = np.nonzero(counts)
    is_right, score = present[image, label], scores[image, label]
    right, wrong = (
        counts_at(THRESHOLDS, score[mask].clip(0, 1), label[mask], size)
        for mask in (is_right, ~is_right)
    )
    total = present.sum(0)
    best = best_threshold(THRESHOLDS, right, wrong, total)
    live = Live(THRESHOLDS.tolist(), list(classes), right, wrong, total, [], [], [], best, "labels")
    table, curves = _many_label_classes(live, scores, present, counts, numbers)
    errors = ((scores >= best) != present) & counts  # [N, K]

    def reason(row: int) -> str:
        wrong = {"missed": errors[row] & present[row], "invented": errors[row] & ~present[row]}
        named = {w: [classes[k] for k in np.flatnonzero(m).tolist()] for w, m in wrong.items()}
        parts = [f"{word}: {', '.join(names)}" for word, names in named.items() if names]
        return "; ".join(parts) or "all right"

    named = [row for row in table.rows if row[2] is not None]
    worst = min(named, key=lambda row: row[2], default=None)
    advice = (
        f"The class of lowest AP is {worst[0]} ({worst[2]:.3f})." if worst else "No label is true."
    )
    calibrated = calibration(score, is_right, "labels")
    return Diagnosis(advice, live, [table, curves, calibrated], errors.sum(1), reason=reason)


def _many_label_classes(
    live: Live,
    scores: np.ndarray,
    present: np.ndarray,
    counts: np.ndarray,
    numbers: Mapping[str, float],
) -> tuple[Table, Chart]:
    """The table of classes, and the curves of those with the most images."""
    rows, curves = [], {}
    f1, best = live.f1(), live.best_of_each()
    for k, name in enumerate(live.names):
        order = np.argsort(-scores[counts[:, k], k], kind="stable")
        right = present[counts[:, k], k][order].cumsum()
        total = int(live.total[k])
        at = int(best[k])
        average = numbers.get(f"AP/{name}")
        rows.append((name, total, average, float(f1[at, k]), float(live.scores[at])))
        if total:
            curves[name] = (right / total, right / np.arange(1, len(right) + 1))
    shown = sorted(curves, key=lambda name: -live.total[live.names.index(name)])[:DRAWN]
    table = Table("Classes", "AP is the metric's; best F1 is at the score beside it.",
                  ("class", "images", "AP", "best F1", "at score"), rows)  # fmt: skip
    chart = Chart("Precision and recall", f"At most {DRAWN} classes.", "recall", "precision",
                  {name: curves[name] for name in shown})  # fmt: skip
    return table, chart
