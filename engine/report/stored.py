"""Reads what train.py and eval.py left in a folder, which may be cut short, edited or a stranger's.

Every reader refuses what is no regular file or not as it was written, in a line with the file.
"""

import csv
import io
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from engine.data.read_json import is_finite, read_json
from engine.errors import UserError
from engine.regular_file import read_regular

LARGEST = 2**24  # bytes of a file; 100,000 names of classes take 2 million
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Columns = dict[str, tuple[list[float], list[float]]]


def config(path: Path, kind: type = dict) -> Any:
    """The content of a YAML file that Hydra or a run wrote, a dict or a list."""
    try:
        text = _text(path)
        # none is ever written, and a few can stand for gigabytes
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, LOADER)):
            raise _wrong(path, "an alias, as *name")
        found = yaml.load(text, LOADER)  # a safe one
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise _wrong(path, f"no YAML as it was written ({_reason(error)})") from None
    if not isinstance(found, kind):
        raise _wrong(path, f"a {type(found).__name__} instead of a {kind.__name__}")
    return found


def results(folder: Path) -> dict[str, Any]:
    """The content of metrics.json: its numbers are finite or None, its texts are texts."""
    path = folder / "metrics.json"
    found = read_json(path)
    if not isinstance(found, dict):
        raise _wrong(path, f"a {type(found).__name__}")
    for key, fits in RESULTS.items():
        if not fits(found.get(key)):
            got = f"{key} {str(found[key])[:60]!r}" if key in found else f"no {key}"
            raise _wrong(path, got)
    return found


def defects(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The content of data_report.json: of each split the rows of its defects."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise _wrong(path, f"a {type(found).__name__}")
    lists = {str(split): rows for split, rows in found.items() if isinstance(rows, list)}
    for row in (row for rows in lists.values() for row in rows):
        if not (isinstance(row, dict) and row.keys() >= DEFECT):
            raise _wrong(path, f"a row {str(row)[:60]!r}")
    return lists


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file that a run or a sweep wrote."""
    try:
        return list(csv.DictReader(io.StringIO(_text(path), newline="")))
    except csv.Error as error:
        raise _wrong(path, f"no table ({_reason(error)})") from None


def columns(path: Path) -> Columns:
    """Epochs and values of each column of metrics.csv."""
    try:
        table = rows(path)
        names = list(table[0]) if table else []
        given = {name: [row for row in table if row[name] not in ("", None)] for name in names}
        return {
            name: ([float(r["epoch"]) for r in of], [float(r[name]) for r in of])
            for name, of in given.items()
        }
    except (ValueError, TypeError, KeyError) as error:
        raise _wrong(path, f"no table of numbers by epoch ({_reason(error)})") from None


def _text(path: Path) -> str:
    try:
        return read_regular(path, LARGEST).decode("utf-8")
    except OSError as error:
        raise _wrong(path, str(error.strerror)) from None
    except UnicodeDecodeError:
        raise _wrong(path, "bytes that are no UTF-8") from None


def _wrong(path: Path, got: str) -> UserError:
    return UserError(
        f"{path}: got {got}; expected what train.py or eval.py wrote there: evaluate anew, "
        "eval.py checkpoint=..."
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _is_number(value: Any) -> bool:
    return value is None or is_finite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_number(number) for number in value.values())


DEFECT = {"file", "row", "reason", "action"}
RESULTS: dict[str, Callable[[Any], bool]] = {
    "primary_name": _is_text,
    "primary_value": _is_number,
    "metrics": _are_numbers,
    "protocol": _is_text,
    "dataset": _is_text,
    "split": lambda value: value is None or isinstance(value, str),
    "seconds": lambda value: value is not None and is_finite(value) and isfinite(value),
}
