"""A confusion matrix as an image."""

from collections.abc import Sequence

import numpy as np

from engine.console import printable
from engine.output.rendering import pixels

COUNTED = 30  # classes up to which the cells show the counts
NAMED = 60  # classes up to which all are named; of more, every second or third, ...
LONGEST = 20  # letters of a name
CELL, NAMES, EDGE, DPI = 0.34, 1.9, 0.1, 100  # inches, inches, inches, pixels an inch


def draw_confusion(counts: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """[H, W, 3] uint8 RGB: rows are the truth, columns what was predicted.

    The colour of a cell is its share of the row, so that rare classes show.

    Args:
        counts: [K, K] images.
        classes: K names.
    """
    # Half a second that every command would wait for; no pyplot, which keeps every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = len(classes)
    matrix = CELL * min(size, NAMED)
    side = NAMES + matrix + EDGE
    figure = Figure(figsize=(side, side), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((NAMES / side, NAMES / side, matrix / side, matrix / side))
    share = counts / counts.sum(1, keepdims=True).clip(1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    shown = range(0, size, -(-size // NAMED))
    names = [printable(str(classes[i]))[:LONGEST] for i in shown]
    # No formulas: a class may be called "$a_1$".
    axes.set_xticks(shown, names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(shown, names, fontsize=8, parse_math=False)
    middle = NAMES + matrix / 2
    figure.text(middle / side, EDGE / side, "predicted", ha="center")
    figure.text(EDGE / side, middle / side, "truth", va="center", rotation=90)
    for row, column in np.argwhere(counts) if size <= COUNTED else ():
        colour = "white" if share[row, column] > 0.5 else "black"
        text = f"{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    return pixels(canvas)
