"""The function that a key of a tool chooses, and the tool's keys that it takes as arguments.

`python -m engine.bench part=loss` calls `measure` of the module that `parts.loss` names.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from engine.config.schema import plain
from engine.errors import UserError, did_you_mean


def chosen(
    cfg: Any, *, key: str, table: str, function: str, schema: type
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Import the function of `cfg[table][cfg[key]]`; return it and its arguments.

    Args:
        cfg: the tool's configuration.
        key: that chooses, `part`.
        table: the key of the modules by name, `parts`.
        function: its name in each module.
        schema: the dataclass of the configuration, whose defaults a key may keep unread.

    Raises:
        UserError: there is no such choice, or it does not take a key that was set.
    """
    name = cfg[key]
    if name not in cfg[table]:
        hint = did_you_mean(str(name), list(cfg[table]))
        raise UserError(f"{key}={name}: expected {' or '.join(cfg[table])}{hint}")
    module = cfg[table][name]
    try:
        found = getattr(importlib.import_module(module), function)  # torch loads only now
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{table}.{name}={module}: expected a module with a function `{function}` ({error})"
        ) from error
    known = list(inspect.signature(found).parameters)
    values, default = plain(cfg), asdict(schema())
    for other in values.keys() - {key, table, *known}:
        if values[other] != default[other]:
            raise UserError(f"{other}: {key}={name} has no such key; it has {', '.join(known)}")
    return found, {known_key: values[known_key] for known_key in known}
