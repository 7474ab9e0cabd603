"""Tables and charts of a detector's errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hotcoco import COCOeval

from detect.diagnosis.advice import ERRORS
from detect.diagnosis.matched import Matched, evaluator
from engine.report.diagnosis import DRAWN, Chart, Table

MEANS = "means over the classes that have such objects, which may be few"
SIZE_NOTE = f"COCO's areas, pixels. AP by hotcoco: {MEANS}."
SIZES = ("small (below 32 x 32)", "medium", "large (96 x 96 and more)")
ASPECTS = {"tall (below 1:2)": (0, 0.5), "upright": (0.5, 0.9), "about square": (0.9, 1 / 0.9),
           "lying": (1 / 0.9, 2), "wide (above 2:1)": (2, 1e5)}  # fmt: skip


def panels(
    matched: Matched, tide: dict[str, Any], numbers: Mapping[str, float]
) -> list[Table | Chart]:
    """Return all of them, in the order of the page.

    Args:
        matched: the detections.
        tide: hotcoco's `tide_errors`.
        numbers: the metric's.
    """
    return [
        _classes(matched, numbers),
        *_curves(matched),
        _ranges(matched, "Size", matched.evaluator, SIZES, SIZE_NOTE),
        _aspects(matched),
        _errors(tide),
        *_calibration(matched),
        _detections_an_image(matched),
    ]


def _average(precision: np.ndarray) -> list[float | None]:
    """Means over IoU and recall of [T, R, K] for each class; None without an object."""
    return [
        float(of[of > -1].mean()) if (of > -1).any() else None
        for of in np.moveaxis(precision, -1, 0)
    ]


def _classes(matched: Matched, numbers: Mapping[str, float]) -> Table:
    live, classes, f1 = matched.live, matched.classes, matched.live.f1()  # [T, K]
    precision = matched.precision[:, :, :, 0, -1]  # [T, R, K]
    at = live.best_of_each()  # [K]
    keys = np.unique(np.stack([matched.true.labels, matched.true.image]), axis=1)[0]
    columns: dict[str, Sequence[Any]] = {
        "class": classes,
        "objects": live.total.tolist(),
        "images": np.bincount(keys, minlength=len(classes)).tolist(),
        "AP": [numbers.get(f"AP/{name}") for name in classes],
        "COCO AP": _average(precision),
        "AP50": _average(precision[:1]),
        "best F1": [float(f1[t, k]) for k, t in enumerate(at)],
        "at score": matched.thresholds[at].tolist(),
        "missed": [int(live.total[k] - live.right[t, k]) for k, t in enumerate(at)],
        "wrong": [int(live.wrong[t, k]) for k, t in enumerate(at)],
    }
    note = "AP is this evaluation's metric. "
    if not any(value is not None for value in columns["AP"]):
        note = ""
        del columns["AP"]
    note += (
        "COCO AP (IoU 0.50 to 0.95) and AP50 are by hotcoco. Best F1 is at the score beside it; "
        "missed and wrong are counted there."
    )
    return Table("Classes", note, list(columns), list(zip(*columns.values(), strict=True)))


def _curves(matched: Matched) -> list[Chart]:
    live, names = matched.live, list(matched.classes)
    recall = matched.evaluator.params.rec_thrs
    precision = matched.precision[0, :, :, 0, -1].clip(0)  # [R, K] at IoU 0.50
    most = np.argsort(-live.total, kind="stable")[:DRAWN].tolist()
    shown, f1 = [k for k in most if live.total[k]], live.f1()
    note = f"The {DRAWN} classes with the most objects. " if len(names) > DRAWN else ""
    return [
        Chart("Precision and recall", note + "At IoU 0.50, by hotcoco; the area is AP50.",
              "recall", "precision", {names[k]: (recall, precision[:, k]) for k in shown}),
        Chart("F1 by score", note + "The line is the best score for all classes together.",
              "least score", "F1", {names[k]: (matched.thresholds, f1[:, k]) for k in shown},
              mark=live.best),
    ]  # fmt: skip


def _aspects(matched: Matched) -> Table:
    """The same measure with width / height in place of the area, by which hotcoco divides."""
    ratios = [
        table.boxes[:, 2] / table.boxes[:, 3].clip(1e-9)
        for table in (matched.true, matched.predicted)
    ]
    judge = evaluator(matched.classes, matched.predicted, matched.true, matched.images, *ratios)
    judge.params.area_rng = [[0, 1e10], *map(list, ASPECTS.values())]
    judge.params.area_rng_lbl = ["all", *ASPECTS]
    judge.evaluate()
    judge.accumulate()
    note = f"Width : height. AP by hotcoco, with the ratio in place of the area: {MEANS}."
    return _ranges(matched, "Aspect", judge, tuple(ASPECTS), note, ratios[0])


def _ranges(
    matched: Matched,
    title: str,
    judge: COCOeval,
    names: Sequence[str],
    note: str,
    values: np.ndarray | None = None,
) -> Table:
    """AP by ranges of the area, or of what stands in its place."""
    counted = (matched.true.area if values is None else values)[~matched.true.ignore]
    precision: Any = judge.eval["precision"][..., -1]  # type: ignore[index]  # [T, R, K, A]
    rows = []
    for i, name in enumerate(names, 1):
        low, high = judge.params.area_rng[i]
        objects = int(((counted >= low) & (counted < high)).sum())
        averages = [_average(part[..., i]) for part in (precision, precision[:1])]
        each = [[ap for ap in average if ap is not None] for average in averages]
        rows.append((name, objects, *(float(np.mean(aps)) if aps else None for aps in each)))
    return Table(title, note, (title.lower(), "objects", "AP", "AP50"), rows)


def _errors(tide: dict[str, Any]) -> Table:
    rows = [(word, tide["counts"][k], tide["delta_ap"][k]) for k, word in ERRORS.items()]
    note = (
        "TIDE (arXiv 2008.08115) by hotcoco: how much AP50 would rise if one kind of error were "
        "mended, at every score. They do not add up, as one mended error uncovers another."
    )
    return Table("Errors by kind", note, ("error", "count", "AP50 lost"), rows)


def _calibration(matched: Matched) -> list[Chart]:
    """None where there is no score, or one that cannot be a probability."""
    scores = matched.predicted.scores
    if not len(scores) or scores.min() < 0 or scores.max() > 1:
        return []
    found = matched.evaluator.calibration(n_bins=10, iou_threshold=0.5)
    bins = [row for row in found["bins"] if row["count"]]
    line = ([row["avg_confidence"] for row in bins], [row["avg_accuracy"] for row in bins])
    note = (
        "Of detections of a score, how many are right; on the diagonal scores can be taken "
        f"for probabilities. ECE {found['ece']:.3f}: the mean distance from it; by hotcoco."
    )
    return [Chart("Calibration", note, "score", "share that is right", {"detections": line},
                  diagonal=True)]  # fmt: skip


def _detections_an_image(matched: Matched) -> Chart:
    best = matched.live.best
    shown = matched.predicted.image[matched.predicted.scores >= best]
    lines = {}
    for name, image in (("objects", matched.true.image), ("detections", shown)):
        counts = np.bincount(np.bincount(image, minlength=matched.images))
        lines[name] = (np.arange(len(counts)), counts)
    note = f"Of a score of at least {best:.2f}."
    return Chart("Detections an image", note, "in an image", "images", lines, "bar")
