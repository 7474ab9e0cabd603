"""Names of older versions and what they are called today: configs/renamed.yaml. No torch here."""

from collections.abc import Collection
from functools import cache
from typing import Any

import yaml

from engine.config.folder import CONFIGS


@cache
def table() -> dict[str, Any]:
    """The file as plain values."""
    return yaml.safe_load((CONFIGS / "renamed.yaml").read_text(encoding="utf-8"))


def new_key(key: str, known: Collection[str], command: str = "") -> str | None:
    """What a dotted key of an older version is called today, where `known` has that."""
    folder, _, leaf = key.rpartition(".")
    names = [table()["commands"].get(command, {}), *table()["keys"].values()]
    new = (f"{folder}.{now}" if folder else now for now in (n.get(leaf) for n in names) if now)
    return next((name for name in new if name in known), None)


def new_option(group: str, option: str) -> str | None:
    """What an option of a group is called today, where it was renamed."""
    return table()["options"].get(group, {}).get(option)
