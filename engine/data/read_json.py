"""Reads JSON files of unknown origin, and checks their numbers."""

import json
from pathlib import Path
from typing import Any

from engine.errors import UserError

LARGEST = 3.4028234663852886e38  # of float32


def read_json(path: str | Path) -> Any:
    """The content of a JSON file; UserError if it does not exist or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; expected a JSON file: check the path"
        ) from None
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: got binary data, expected a JSON file (text): check the path"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: got no JSON ({error}), expected a JSON file") from None


def is_finite(value: Any) -> bool:
    """Whether a value of a JSON file is a number that float32 can hold."""
    return isinstance(value, int | float) and abs(value) <= LARGEST
