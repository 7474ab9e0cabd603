"""Text for the console: messages, errors, defects of a data set, tables. No import of torch here.

Everything that a command prints goes through here, since names of files, classes and categories are
other people's: a terminal would obey the escape codes in them, and a line break forges a line.
Escape codes of our own, and line breaks at the terminal's width, are added last and for a terminal
alone: pipes and log files get whole plain lines.
"""

import io
import logging
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

BOLD, RED, PLAIN = "\x1b[1m", "\x1b[1;31m", "\x1b[0m"

# Control characters (C0, DEL, C1), line and paragraph separators, changes of the direction of
# writing, and lone surrogates, which stand for bytes that are not UTF-8.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def info(*lines: str, strong: Sequence[str] = ()) -> None:
    """Print a message of one or more lines and write it to the run's log.

    Args:
        lines: the message.
        strong: parts of it that stand out on a terminal.
    """
    parts = {"strong": [*map(printable, strong)]}
    logging.getLogger("onelook").info("%s", _joined(lines), extra=parts)


def echo(*lines: str) -> None:
    """Print lines as they are to standard output alone: the results of a tool that keeps no log."""
    _print(_joined(lines))


def show(*lines: str, strong: Sequence[str] = ()) -> None:
    """Print lines as `info` does, but write them to no log."""
    _print(_for_stream(_joined(lines), sys.stdout, [*map(printable, strong)]))


def _print(text: str) -> None:
    try:
        print(text)
    except BrokenPipeError:  # `... | head`
        discard()


def discard() -> None:
    """Let standard output lead nowhere from here on: its reader has gone, the command goes on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(found: Iterable[tuple[str, str]]) -> None:
    """Print warnings, a line each: what is wrong, and what to change."""
    for what, change in found:
        info(f"warning: {what}; {change}", strong=["warning:"])


def error(*lines: str) -> None:
    """Print lines to standard error."""
    print(_for_stream(_joined(lines), sys.stderr, ["error:"], RED), file=sys.stderr)


class TerminalFormatter(logging.Formatter):
    """Formats messages of `info` for standard output; `configs/common.yaml` names it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, wrapped and with its strong parts in bold on a terminal."""
        return _for_stream(super().format(record), sys.stdout, vars(record).get("strong", ()))


def _for_stream(text: str, stream: TextIO, strong: Sequence[str], style: str = BOLD) -> str:
    """The text as it is; on a terminal wrapped at its width, the strong parts in a style."""
    if not stream.isatty():
        return text
    text = "\n".join(wrap(line, _width(stream)) for line in text.split("\n"))
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":  # no-color.org
        return text
    for part in strong:  # its words may be on two lines by now
        pattern = r"\s+".join(map(re.escape, part.split()))
        text = re.sub(pattern, lambda found: f"{style}{found[0]}{PLAIN}", text, count=1)
    return text


def _width(stream: TextIO) -> int:
    """Columns of a terminal; 80 where it states none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def wrap(line: str, width: int) -> str:
    """Break a line between words so that it fits `width` columns; a longer word stays whole."""
    if len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip())] + "  "
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


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
    cells = [list(rows[0]), *([short(value) for value in row.values()] for row in rows)]
    cells = [[printable(cell) for cell in line] for line in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (zip(line, widths, strict=True) for line in cells)
    return ["  ".join(f"{cell:>{width}}" for cell, width in line) for line in lines]


def short(value: Any) -> str:
    """Return a float with three digits that count, else the value's text."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """Return a time in its largest fitting unit: 35 s, 12 min, 3.2 h, 2.5 days."""
    for limit, size, unit, digits in (
        (99.5, 1, "s", 0),
        (5970, 60, "min", 0),
        (1.7e5, 3600, "h", 1),
    ):
        if seconds < limit:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} days"
