"""Why each detection counts as it does, in words, for `eval.py explain=true`."""

from collections.abc import Sequence

import numpy as np

NO_OBJECT = -1


def number_in_image(image: np.ndarray) -> np.ndarray:
    """Return the number [N], from 1, of each object among those of its image.

    Args:
        image: [N] of each object, in the order of the annotation.
    """
    order = np.argsort(image, kind="stable")
    _, first, count = np.unique(image[order], return_index=True, return_counts=True)
    number = np.empty(len(image), np.int64)
    number[order] = np.arange(len(image)) - np.repeat(first, count) + 1
    return number


def reasons(
    iou: np.ndarray,
    best: np.ndarray,
    match: np.ndarray,
    right: np.ndarray,
    left_out: Sequence[str],
    number: np.ndarray,
    least: float,
) -> list[str]:
    """Return why each detection of one class is right, wrong or left out.

    Args:
        iou: [M] highest with an object of the class in the image, the highest score first.
        best: [M] row of that object, NO_OBJECT where there is none.
        match: [M] row of the object that a right detection finds.
        right: [M] bool.
        left_out: M texts, "" of what counts.
        number: [N] of each object in its image.
        least: IoU of a match.
    """
    rank = {int(match[i]): i + 1 for i in np.flatnonzero(right)}  # of the finder of each object
    limit = shown(least)
    texts = []
    for i, text in enumerate(left_out):
        row, finder = int(best[i]), rank.get(int(best[i]), i + 1)
        if text:
            texts.append(text)
        elif right[i] and finder == i + 1:
            texts.append(f"IoU {shown(iou[i], least)} reaches {limit}")
        elif right[i]:  # the devkit's rule gives it no second choice, COCO's does
            texts.append(
                f"object {number[row]} was found by rank {finder} already; "
                f"object {number[match[i]]} reaches {limit} too"
            )
        elif row == NO_OBJECT:
            texts.append("no object of this class in the image")
        elif not iou[i]:
            texts.append("overlaps no object of this class")
        elif iou[i] < least:
            texts.append(f"IoU {shown(iou[i], least)} below {limit}")
        else:
            texts.append(f"its object was found by rank {finder} already")
    return texts


def shown(iou: float, least: float | None = None) -> str:
    """Return an IoU with two decimals, or with so many that it is on its own side of `least`."""
    if least is None:
        return max(f"{iou:.2f}", str(float(iou)), key=len)
    limit = shown(least)
    for decimals in range(max(len(limit.partition(".")[2]), 2), 18):
        text = f"{iou:.{decimals}f}"
        if (float(text) >= least) == (iou >= least):
            break
    return text
