"""JSON files of others, and their numbers."""

import json
from pathlib import Path
from typing import Any

from engine.errors import UserError

LARGEST = 3.4028234663852886e38  # of float32


def read_json(path: str | Path) -> Any:
    """What a JSON file holds; UserError where there is no such file or no JSON in it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; expected a JSON file: check the path"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: got no JSON ({error}), expected a JSON file") from None


def is_finite(value: Any) -> bool:
    """Whether a value of a JSON file is a number that float32 can hold."""
    return isinstance(value, int | float) and abs(value) <= LARGEST
