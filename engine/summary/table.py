"""Formats a network's summary: as a table, or as plain values for JSON."""

from math import inf
from typing import Any

from engine.console import printable

WIDTH = 100  # columns
FOOT = (
    "field: receptive field, pixels a side, all: the whole image. The gate of a squeeze-and-\n"
    "excitation block sees all; it does not widen the field of the map that it scales.\n"
    "MACs: multiplications with an addition, of convolutions, matrix products and attention."
)


def plain_values(summary: Any) -> dict[str, Any]:
    """A summary as plain values; stride None: not a map; field "all": the whole image."""
    rows = [layer._asdict() | {"field": _field(layer.field)} for layer in summary.layers]
    levels = [level._asdict() for level in summary.levels]
    gmacs = {"gmacs": summary.macs / 1e9}
    return summary._asdict() | {"layers": rows, "levels": levels} | gmacs


def format_summary(summary: Any) -> str:
    """A summary as a table to read."""
    height, width = summary.image_size
    lines = [
        f"{summary.backbone} + {summary.head}, {summary.num_classes} classes, "
        f"images [3, {height}, {width}]\n",
        *_table(
            ("layer", "type", "output", "stride", "field", "parameters", "MACs"),
            [_row(layer) for layer in summary.layers],
            left=3,
        ),
        f"\nparameters {summary.parameters:,}"
        + (f", {summary.unlisted:,} of them in no layer above" if summary.unlisted else ""),
        f"GMACs {summary.macs / 1e9:.3f}",
    ]
    if summary.levels:
        rows = [
            (f"{n}", *(f"{a} x {b}" for a, b in (level.grid, map("{:g}".format, level.cell))),
             f"{level.anchors}", f"{level.slots:,}")
            for n, level in enumerate(summary.levels, 1)
        ]  # fmt: skip
        heads = ("level", "grid", "cell, pixels", "anchors a cell", "slots")
        lines += ["", *_table(heads, rows), f"slots {summary.slots:,}"]
    return "\n".join([*lines, "", FOOT, *filter(None, [summary.note])])


def _row(layer: Any) -> tuple[str, ...]:
    output = f"[{', '.join(map(str, layer.output))}]"
    stride = "" if layer.stride is None else f"{layer.stride:g}"
    field = "" if layer.field is None else f"{_field(layer.field)}"
    count = f"{layer.parameters:,}" if layer.parameters else ""
    return layer.name, layer.type, output, stride, field, count, _macs(layer.macs)


def _field(value: float | None) -> float | str | None:
    if value is None:
        return None
    return "all" if value == inf else int(value) if value == int(value) else value


def _macs(value: int) -> str:
    if not value:
        return ""
    return f"{value / 1e9:.3f} G" if value >= 1e9 else f"{value / 1e6:.3f} M"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]], left: int = 0) -> list[str]:
    """Aligned lines; names in the first column lose their front where they exceed WIDTH."""
    rows = [tuple(map(printable, row)) for row in rows]  # layers have any name
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
    lines = []
    for first, *others in [heads, *rows]:
        short = first if len(first) <= widths[0] else f"..{first[2 - widths[0] :]}"
        cells = [
            f"{cell:{'<' if i < left else '>'}{width}}"
            for i, (cell, width) in enumerate(zip((short, *others), widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
