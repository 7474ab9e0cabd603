"""Text for the console: messages, errors, defects of a data set, tables. No import of torch here.

Everything that a command prints goes through here, since names of files, classes and categories are
other people's: a terminal would obey the escape codes in them, and a line break forges a line.
"""

import io
import logging
import re
import sys
from typing import Any

# Control characters (C0, DEL, C1), line and paragraph separators, changes of the direction of
# writing, and lone surrogates, which stand for bytes that are not UTF-8.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def info(*lines: str) -> None:
    """Print a message of one or more lines and write it to the run's log."""
    logging.getLogger("onelook").info("%s", _joined(lines))


def echo(*lines: str) -> None:
    """Print lines to standard output alone: the results of a tool that keeps no log."""
    print(_joined(lines))


def error(*lines: str) -> None:
    """Print lines to standard error."""
    print(_joined(lines), file=sys.stderr)


def printable(text: str) -> str:
    r"""The text as one line that a terminal only shows: `\x1b[31m` for an escape code, `\n`."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def escape_unencodable() -> None:
    """Let standard output and error escape what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _joined(lines: tuple[str, ...]) -> str:
    return "\n".join(map(printable, lines))


def format_defect(entry: dict[str, Any]) -> str:
    """Return a defect as one line that names the file once."""
    file, row, reason = str(entry["file"]), entry["row"], entry["reason"]
    where = f"{file} row {row}: " if row is not None else "" if file in reason else f"{file}: "
    return f"{where}{reason}, {entry['action']}"


def format_table(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows of the same keys as the lines of a text table."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    cells = [[printable(cell) for cell in line] for line in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (zip(line, widths, strict=True) for line in cells)
    return ["  ".join(f"{cell:>{width}}" for cell, width in line) for line in lines]


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
