"""Charts as SVG whose text is text, by matplotlib."""

import io
import re
from typing import Any

import numpy as np

from engine.output.rendering import any_letters
from engine.report.diagnosis import Chart

SIZE = (4.6, 3.1)  # inches
COLOURS = ("#0b6cb8", "#d1495b", "#2a9d5c", "#e09f1f", "#7b4fb5", "#17a2a8", "#8c5a3c", "#d670b6",
           "#5f6b76", "#94a81b", "#1b3f8b", "#b3541e")  # fmt: skip
POINTS = 200  # of a line; more are not visible


def draw(chart: Chart) -> str:
    """Return a chart as an <svg> element."""
    # Half a second that every command would wait for; no pyplot, which keeps every figure.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    options: Any = {"svg.fonttype": "none", "svg.hashsalt": "onelook", "font.family": "sans-serif",
               "font.size": 9, "text.parse_math": False}  # fmt: skip
    with matplotlib.rc_context(options), any_letters():
        figure = Figure(figsize=SIZE, layout="constrained")
        canvas = FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _draw_lines(axes, chart)
        axes.set_xlabel(chart.x)
        axes.set_ylabel(chart.y)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if chart.ticks:
            axes.set_xticks(range(len(chart.ticks)), chart.ticks)
        if chart.log:
            axes.set_xscale("log")
        if chart.diagonal:
            axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
        if chart.mark is not None:
            axes.axvline(chart.mark, color="#555555", linewidth=1, linestyle="--")
        if 1 < len(chart.lines) <= len(COLOURS):
            axes.legend(frameon=False, fontsize=8)
        file = io.StringIO()
        canvas.print_svg(file, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)


def _draw_lines(axes: Any, chart: Chart) -> None:
    width = 0.8 / max(len(chart.lines), 1)
    for i, (name, (x, y)) in enumerate(chart.lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        x, y = np.asarray(x, float), np.asarray(y, float)
        if chart.kind == "bar":
            step = float(np.diff(x).min()) if len(x) > 1 else 1.0
            axes.bar(x + (i + 0.5 - len(chart.lines) / 2) * width * step, y, width * step,
                     color=colour, label=name)  # fmt: skip
            continue
        if chart.kind == "points":
            axes.plot(x, y, color=colour, label=name, linestyle="", marker="o", markersize=3)
            continue
        keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int))
        marker = "o" if len(x) <= 12 else None
        axes.plot(x[keep], y[keep], color=colour, label=name, linewidth=1.5, marker=marker,
                  markersize=3)  # fmt: skip
