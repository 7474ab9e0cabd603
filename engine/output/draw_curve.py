"""The precision-recall curve of a class as an image, with what its average precision is made of."""

from typing import Any

import numpy as np

from engine.output.rendering import pixels
from engine.record import Matched

SIZE, DPI = (5.6, 4.2), 100  # inches, pixels an inch
LONGEST = 40  # letters of a name


def draw(found: Matched) -> np.ndarray:
    """Return [H, W, 3] uint8 RGB: a point each prediction that counts, and the envelope of them.

    The envelope's precision at a recall is the best at this or any higher one. Where the rule reads
    it at some recalls only, these are marked; the AP is their mean, else the area below.
    """
    # Half a second that every command would wait for; no pyplot, which keeps every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="recall", ylabel="precision")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.05)
    axes.grid(alpha=0.25)
    _draw_points(axes, found)
    # No formulas: a class may be called "$a_1$".
    axes.set_title(_title(found), fontsize=9, parse_math=False)
    figure.legend(fontsize=8, loc="outside lower center", ncols=3)
    return pixels(canvas)


def _title(found: Matched) -> str:
    name = f"{found.name[:LONGEST]}: {found.total} object{'s' * (found.total != 1)}"
    return name if found.ap is None else f"{name}\n{found.rule}: {found.ap:.6f}"


def _draw_points(axes: Any, found: Matched) -> None:
    recall, precision, best = curve(found)
    axes.plot(recall, precision, "o-", color="#999999", markersize=3, linewidth=0.7,
              label="each detection")  # fmt: skip
    if not found.total:
        return
    # the best precision holds from the recall before to this one; after the last it is 0
    steps = [0.0, *recall, recall[-1] if len(recall) else 0.0, 1.0]
    heights = [best[0] if len(best) else 0.0, *best, 0.0, 0.0]
    axes.step(steps, heights, where="pre", color="#0b6cb8", label="best at this recall or higher")
    if len(found.recalls):
        at = np.append(best, 0.0)[np.searchsorted(recall, found.recalls)]
        axes.plot(found.recalls, at, "s", color="#d1495b", markersize=4 if len(at) < 30 else 2,
                  label=f"the {len(found.recalls)} points of the rule")  # fmt: skip


def curve(found: Matched) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return recall, precision and the best precision at this recall or a higher one.

    [M] each, of the predictions that count, the highest score first; recall is 0 without objects.
    """
    right = found.right[found.right | found.wrong]
    recall = right.cumsum() / max(found.total, 1)
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    return recall, precision, np.maximum.accumulate(precision[::-1])[::-1]
