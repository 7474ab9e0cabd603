"""Writes what became of each prediction, so that every average precision can be checked by hand."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.console import format_table, info
from engine.data.image import write_rgb
from engine.distributed.processes import rank_zero_only
from engine.errors import UserError
from engine.output import draw_curve
from engine.output.file_names import FileNames
from engine.output.table import format_csv
from engine.protocols import Metric, MetricOptions
from engine.record import Matched
from engine.whole_file import write_whole

COLUMNS = ("class", "rank", "image", "score", "best_iou", "object", "verdict", "why", "tp_so_far",
           "fp_so_far", "precision", "recall")  # fmt: skip


def check(metric: Metric) -> None:
    """Raise UserError where a metric cannot say what became of a prediction."""
    if MetricOptions.explain.of(metric) is None:
        raise UserError(
            f"explain=true: {type(metric).__name__} matches no boxes with objects; metric=voc_map "
            "and metric=coco_map do, or leave explain=true out"
        )


@rank_zero_only
def write(folder: Path, metric: Any, images: Sequence[str | int]) -> None:
    """Write matches.csv and images/pr_NAME.png of each class, and print the table of the classes.

    Args:
        folder: of the evaluation.
        metric: that has judged it, see `check`.
        images: ids, in the order in which the metric was given the images.
    """
    found = [each for each in metric.explain() if each.total or len(each.scores)]
    path = folder / "matches.csv"
    write_whole(path, format_csv(COLUMNS, (row for each in found for row in rows(each, images))))
    names = FileNames(".png")
    for i, each in enumerate(found):
        write_rgb(str(folder / "images" / names.of(i, f"pr_{each.name}")), draw_curve.draw(each))
    if found:
        info(*format_table([_counts(each) for each in found]), f"({found[0].rule})")
    info(f"why each counts: {path}, {folder / 'images' / 'pr_*.png'}")


def rows(found: Matched, images: Sequence[str | int]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of matches.csv of one class; a number that is 0 / 0 is empty."""
    tp, fp = found.right.cumsum(), found.wrong.cumsum()
    columns = (
        found.image,
        found.scores.astype(str).astype(float),  # 0.9, where the float32 is 0.899999976...
        found.iou,
        np.where(found.iou > 0, found.object, 0),
        np.where(found.right, "TP", np.where(found.wrong, "FP", "ignored")),
        tp,
        fp,
        tp / (tp + fp).clip(1),
        tp / max(found.total, 1),
    )
    lines = zip(*(column.tolist() for column in columns), found.why, strict=True)
    for rank, (image, score, iou, number, verdict, t, f, precision, recall, why) in enumerate(
        lines, 1
    ):
        yield (found.name, rank, images[image], score, iou, number or "", verdict, why, t, f,
               precision if t + f else "", recall if found.total else "")  # fmt: skip


def _counts(found: Matched) -> dict[str, Any]:
    right, wrong = int(found.right.sum()), int(found.wrong.sum())
    return {
        "class": found.name,
        "objects": found.total,
        "TP": right,
        "FP": wrong,
        "ignored": len(found.scores) - right - wrong,
        "missed": found.total - right,
        "AP": "-" if found.ap is None else f"{found.ap:.6f}",
    }
