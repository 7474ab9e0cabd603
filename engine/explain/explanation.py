"""What `python -m engine.explain` returns of a topic: a table and a figure."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.data.image import png
from engine.output.rendering import pixels
from engine.output.table import format_csv
from engine.whole_file import write_whole


@dataclass
class Explanation:
    """A topic in numbers and an image.

    Args:
        rows: the table, each with the same keys.
        figure: matplotlib's, written as PNG.
        lines: what to read in them, below the table.
    """

    rows: list[dict[str, Any]]
    figure: Any
    lines: list[str] = field(default_factory=list)

    def write(self, folder: Path, name: str) -> None:
        """Write NAME.csv and NAME.png to the folder."""
        table = format_csv(list(self.rows[0]), [[*row.values()] for row in self.rows])
        write_whole(folder / f"{name}.csv", table)
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        write_whole(folder / f"{name}.png", png(pixels(FigureCanvasAgg(self.figure))))


def new_figure(width: float, height: float) -> Any:
    """An empty figure of `width` x `height` inches, 100 pixels an inch."""
    # Half a second that a refused command would wait for; no pyplot, which keeps every figure.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, layout="constrained")
