"""The average precision of a few detections by hand, by three rules that read one curve.

VOC 2007: the mean of the precision at the recalls 0, 0.1, ..., 1 (Everingham et al., IJCV 2010,
section 4.2). VOC 2010: the area under the curve. COCO: the mean at 0, 0.01, ..., 1. All take, at a
recall, the best precision at this or any higher one. The last lines are the metrics of this project
on boxes with the same verdicts.
"""

from typing import Any

import numpy as np

from detect.metrics.coco_map import COCOMap
from detect.metrics.voc_map import VOCMap
from engine.errors import UserError
from engine.explain.explanation import Explanation, new_figure
from engine.record import ObjectTable

SIDE = 10.0  # of a box, pixels


def curve(hits: list[bool], objects: int) -> tuple[list[float], list[float], list[float]]:
    """Precision, recall and envelope of each rank, the highest score first."""
    precision, recall, right = [], [], 0
    for rank, hit in enumerate(hits, 1):
        right += hit
        precision.append(right / rank)
        recall.append(right / objects)
    envelope = [max(precision[i:]) for i in range(len(hits))]
    return precision, recall, envelope


def area(recall: list[float], envelope: list[float]) -> float:
    """VOC 2010: each rank's step in recall, times the envelope there."""
    total, before = 0.0, 0.0
    for at, height in zip(recall, envelope, strict=True):
        total += (at - before) * height
        before = at
    return total


def readings(recall: list[float], envelope: list[float], points: int) -> list[float]:
    """The envelope at `points` recalls from 0 to 1; 0 where no rank reaches so far."""
    return [
        max((p for r, p in zip(recall, envelope, strict=True) if r >= least), default=0.0)
        for least in np.linspace(0, 1, points).tolist()
    ]


def explain(scores: list[float], verdicts: list[str], objects: int) -> Explanation:
    """The table of the ranks, and the average precision by each rule, by hand and by the metric."""
    ranked = _ranked(scores, verdicts, objects)
    hits = [verdict == "TP" for _, verdict in ranked]
    precision, recall, envelope = curve(hits, objects)
    right = np.cumsum(hits).tolist()
    rows: list[dict[str, Any]] = [
        {"rank": i + 1, "score": score, "verdict": verdict, "TP": right[i],
         "FP": i + 1 - right[i], "precision": precision[i], "recall": recall[i],
         "envelope": envelope[i]}
        for i, (score, verdict) in enumerate(ranked)
    ]  # fmt: skip
    eleven, hundred = readings(recall, envelope, 11), readings(recall, envelope, 101)
    metric = judged([score for score, _ in ranked], hits, objects)
    by_hand = {
        "area, VOC 2010": (_steps(hits, envelope, objects), area(recall, envelope)),
        "11 points, VOC 2007": (f"({_sum(eleven)}) / 11", sum(eleven) / 11),
        "101 points, COCO": (f"({_sum(hundred)}) / 101", sum(hundred) / 101),
    }
    lines = [f"FN: {objects - right[-1]} of {objects} objects"]
    lines += [
        f"{name}: {how} = {ap:.6f}; the metric: {metric[name]:.6f}"
        for name, (how, ap) in by_hand.items()
    ]
    return Explanation(rows, _figure(rows, eleven, hundred), lines)


def _ranked(scores: list[float], verdicts: list[str], objects: int) -> list[tuple[float, str]]:
    """Scores and verdicts, the highest score first; of equal ones the first.

    Raises:
        UserError: they do not fit each other.
    """
    if len(scores) != len(verdicts):
        raise UserError(
            f"verdicts: got {len(verdicts)} of {len(scores)} scores, expected one a score"
        )
    if wrong := set(verdicts) - {"TP", "FP"}:
        raise UserError(f"verdicts: got {', '.join(sorted(wrong))}, expected TP or FP each")
    if verdicts.count("TP") > objects:
        raise UserError(f"objects={objects}: expected at least one a TP, {verdicts.count('TP')}")
    return sorted(zip(scores, verdicts, strict=True), key=lambda pair: -pair[0])


def judged(scores: list[float], hits: list[bool], objects: int) -> dict[str, float]:
    """What `metric=voc_map` and `metric=coco_map` give for boxes with these verdicts.

    Object i stands at x = 20 i; a true positive is its box, a false one lies under them all.
    """
    true = _table(np.arange(objects) * 2 * SIDE, np.zeros(objects), np.ones(objects))
    places = np.cumsum(hits) - 1
    found = _table(places * 2 * SIDE, np.where(hits, 0, 2 * SIDE), np.array(scores))
    area_rule, points = VOCMap(classes=["object"]), VOCMap(classes=["object"], rule="11_point")
    coco = COCOMap(classes=["object"])
    for metric in (area_rule, points, coco):
        metric.update_table(found, true, images=1)
    return {
        "area, VOC 2010": area_rule.compute()["mAP"],
        "11 points, VOC 2007": points.compute()["mAP"],
        "101 points, COCO": coco.compute()["AP50"],
    }


def _table(x: np.ndarray, y: np.ndarray, scores: np.ndarray) -> ObjectTable:
    count = len(x)
    boxes = np.column_stack([x, y, np.full((count, 2), SIDE)])
    zero = np.zeros(count, np.int64)
    return ObjectTable(zero, zero, boxes, scores, np.full(count, SIDE**2), zero.astype(bool))


def _steps(hits: list[bool], envelope: list[float], objects: int) -> str:
    """The area as a sum: of each true positive a step of 1 / objects, times the envelope."""
    heights = [height for height, hit in zip(envelope, hits, strict=True) if hit]
    return f"({_sum(heights)}) / {objects}"


def _sum(heights: list[float]) -> str:
    """Equal numbers next to each other as a product: "3 x 1 + 2 x 0.5"."""
    text, counts = [], [[heights[0], 0]] if heights else []
    for height in heights:
        if height != counts[-1][0]:
            counts.append([height, 0])
        counts[-1][1] += 1
    text = [f"{count:g} x {height:.4g}" for height, count in counts]
    return " + ".join(text) or "0"


def _figure(rows: list[dict[str, Any]], eleven: list[float], hundred: list[float]):
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    recall, envelope = ([row[key] for row in rows] for key in ("recall", "envelope"))
    steps = [0.0, *recall, recall[-1], 1.0]
    heights = [envelope[0], *envelope, 0.0, 0.0]
    axes.fill_between(steps, heights, step="pre", alpha=0.15, label="area, VOC 2010")
    axes.step(steps, heights, where="pre", label="envelope: the best precision from here on")
    axes.plot(recall, [row["precision"] for row in rows], "o-", color="#999999", linewidth=0.7,
              label="precision of each rank")  # fmt: skip
    axes.plot(np.linspace(0, 1, 101), hundred, ".", markersize=4, label="101 points, COCO")
    axes.plot(np.linspace(0, 1, 11), eleven, "s", markersize=7, fillstyle="none", color="#d1495b",
              label="11 points, VOC 2007")  # fmt: skip
    for row in rows:
        axes.annotate(str(row["rank"]), (row["recall"], row["precision"]), (5, -10),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.06))
    axes.grid(alpha=0.25)
    figure.legend(fontsize=8, loc="outside lower center", ncols=3)
    return figure
