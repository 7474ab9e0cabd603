"""Reads JSON files of unknown origin, and checks their numbers."""

import json
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.regular_file import read_regular, read_start

LARGEST = 3.4028234663852886e38  # of float32
LARGEST_FILE = 2**32  # bytes; Python objects of them take ten times as much
GZIP = b"\x1f\x8b"


def read_json(path: str | Path) -> Any:
    """The content of a JSON file in UTF-8 or UTF-16; UserError if it is none, with the reason."""
    try:
        start = read_start(path)
        if start.startswith(GZIP):
            raise UserError(f"{path}: got a gzip file, expected a JSON file: unpack it first")
        if "\0" in start.decode(json.detect_encoding(start), "ignore"):
            raise UserError(f"{path}: got binary data, expected a JSON file: check the path")
        return json.loads(read_regular(path, LARGEST_FILE))
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; expected a JSON file: check the path"
        ) from None
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: got binary data, expected a JSON file (text): check the path"
        ) from None
    except RecursionError:
        raise UserError(f"{path}: got no JSON (nested too deeply), expected a JSON file") from None
    except ValueError as error:
        reason = str(error).split(";")[0]  # of a number of 5000 digits: advice to programmers
        raise UserError(f"{path}: got no JSON ({reason}), expected a JSON file") from None


def is_finite(value: Any) -> bool:
    """Whether a value of a JSON file is a number that float32 can hold."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= LARGEST
