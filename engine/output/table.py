"""Tables as CSV text."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def format_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a header and rows as CSV (RFC 4180, lines end in CR LF)."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV, whose columns are all keys in their order; a cell may be empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return format_csv(columns, ([row.get(key, "") for key in columns] for row in rows))
