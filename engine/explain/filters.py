"""Filters of 5 x 5 pixels against salt-and-pepper noise: what each mends, and what it costs.

A linear filter replaces a pixel by a weighted sum of its neighbours (a convolution); the median,
the maximum (dilation) and the minimum (erosion) sort them instead. All are OpenCV's.
"""

from collections.abc import Callable

import cv2
import numpy as np

from engine.explain.explanation import Explanation, new_figure
from engine.explain.images import read_or_draw

GAUSSIAN = np.array(
    [[1, 4, 7, 4, 1], [4, 16, 26, 16, 4], [7, 26, 41, 26, 7], [4, 16, 26, 16, 4], [1, 4, 7, 4, 1]]
)  # of deviation 1 in whole numbers; divided by its sum, 273
WINDOW = np.ones((5, 5), np.uint8)
SHOWN = (120, 160)  # height and width of what is drawn, pixels: single ones can be seen

FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gaussian": lambda x: cv2.filter2D(x, -1, GAUSSIAN / GAUSSIAN.sum()),
    "mean": lambda x: cv2.blur(x, (5, 5)),
    "median 3 x 3": lambda x: cv2.medianBlur(x, 3),
    "median": lambda x: cv2.medianBlur(x, 5),
    "maximum": lambda x: cv2.dilate(x, WINDOW),
    "minimum": lambda x: cv2.erode(x, WINDOW),
}


def explain(image: str | None, noise: float, seed: int) -> Explanation:
    """Each filter's error on a noisy image, and on the clean one."""
    clean = read_or_draw(image)
    noisy = salt_and_pepper(clean, noise, np.random.default_rng(seed))
    shown = {"clean": clean, "noisy": noisy}
    rows = [_row("none", clean, noisy, clean)]
    for name, smooth in FILTERS.items():
        shown[name] = smooth(noisy)
        rows.append(_row(name, clean, shown[name], smooth(clean)))
    kernel = [" ".join(f"{weight:2d}" for weight in line) for line in GAUSSIAN]
    return Explanation(rows, _figure(shown), [f"gaussian, each of {GAUSSIAN.sum()}:", *kernel])


def salt_and_pepper(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A copy of [H, W, 3] with `share` of its pixels white or black, about half each."""
    noisy, drawn = image.copy(), rng.random(image.shape[:2])
    noisy[drawn < share] = 0
    noisy[drawn < share / 2] = 255
    return noisy


def mean_error(clean: np.ndarray, other: np.ndarray) -> float:
    """The mean absolute difference, grey levels."""
    return float(np.abs(clean.astype(float) - other).mean())


def psnr(clean: np.ndarray, other: np.ndarray) -> float:
    """10 log10(255^2 / mean squared difference), decibels; infinite for equal images."""
    squared = np.square(clean.astype(float) - other).mean()
    return float(10 * np.log10(255**2 / squared)) if squared else float("inf")


def _row(name: str, clean: np.ndarray, mended: np.ndarray, smoothed: np.ndarray) -> dict:
    return {"filter": name, "error": mean_error(clean, mended), "PSNR": psnr(clean, mended),
            "error without noise": mean_error(clean, smoothed)}  # fmt: skip


def _figure(shown: dict[str, np.ndarray]):
    figure = new_figure(8.8, 3.7)
    for axes, (name, image) in zip(figure.subplots(2, 4).flat, shown.items(), strict=True):
        top, left = (max(0, (a - b) // 2) for a, b in zip(image.shape, SHOWN, strict=False))
        axes.imshow(image[top : top + SHOWN[0], left : left + SHOWN[1]], interpolation="nearest")
        axes.set(title=name, xticks=[], yticks=[])
    return figure
