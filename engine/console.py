"""Text for the console: messages, defects of a data set, tables. No import of torch here."""

import logging
from typing import Any


def info(text: str) -> None:
    """Print a message and write it to the run's log; bytes that are not UTF-8 are escaped."""
    logging.getLogger("onelook").info("%s", text.encode("utf-8", "backslashreplace").decode())


def format_defect(entry: dict[str, Any]) -> str:
    """Return a defect as one line that names the file once."""
    file, row, reason = str(entry["file"]), entry["row"], entry["reason"]
    where = f"{file} row {row}: " if row is not None else "" if file in reason else f"{file}: "
    return f"{where}{reason}, {entry['action']}"


def format_table(rows: list[dict[str, Any]]) -> str:
    """Return rows of the same keys as a text table."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (zip(line, widths, strict=True) for line in cells)
    return "\n".join("  ".join(f"{cell:>{width}}" for cell, width in line) for line in lines)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
