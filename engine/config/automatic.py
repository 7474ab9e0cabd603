"""An option `auto` of a group: its class chooses another option, in whose place nothing is guessed.

`choose` of the class gets the group's keys of the command line; the option that it names, and its
keys, take the place of `GROUP=auto` there, before Hydra reads it. So they do where an experiment
chooses it. No import of torch here.
"""

from typing import Any

import hydra.utils
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf

from engine.config import keys
from engine.config.schema import CONFIGS
from engine.console import info
from engine.errors import UserError

AUTO = "auto"
CHOSEN: list[str] = []  # lines that say what was chosen, until there is a log to write them to


def explicit(arguments: list[str]) -> list[str]:
    """The command line with the option that each `GROUP=auto` stands for in its place.

    Raises:
        UserError: the class cannot choose, or the group's keys have several values, of a sweep.
    """
    for group in keys.groups():
        if (CONFIGS / group / f"{AUTO}.yaml").is_file():
            if not any(argument.startswith(f"{group}=") for argument in arguments):
                arguments = [*arguments, *_by_experiment(group, arguments)]
            if f"{group}={AUTO}" in arguments:
                arguments = _explicit(group, arguments)
    return arguments


def _by_experiment(group: str, arguments: list[str]) -> list[str]:
    """`GROUP=auto` where an experiment of the command line chooses it."""
    given = [a.partition("=")[2] for a in arguments if a.lstrip("+").startswith("experiment=")]
    names = given[-1].split(",") if given else []
    return [f"{group}={AUTO}"] * any(_choice(group, name) == AUTO for name in names)


def _choice(group: str, experiment: str) -> str | None:
    """The option of a group that an experiment of ours, or one that it is made from, chooses."""
    path = CONFIGS / "experiment" / f"{experiment}.yaml"
    node: Any = OmegaConf.load(path) if path.is_file() else {}
    chosen = None
    for default in node.get("defaults", []):
        if isinstance(default, str):
            chosen = _choice(group, default) or chosen
        else:
            chosen = default.get(f"override /{group}", chosen)
    return chosen


def announce() -> None:
    """Say what was chosen, once."""
    if CHOSEN:
        info(*CHOSEN)
    CHOSEN.clear()


def _explicit(group: str, arguments: list[str]) -> list[str]:
    try:
        given = _given(group, arguments)
    except HydraException:
        return arguments  # the command line's checks say what is wrong with it
    node: Any = OmegaConf.load(CONFIGS / group / f"{AUTO}.yaml")
    chooser = hydra.utils.get_class(node["_target_"])
    option, values, line = chooser.choose(given)  # type: ignore[attr-defined]
    CHOSEN.append(line)
    replaced = {f"{group}.{key}" for key in node}
    rest = [a for a in arguments if a != f"{group}={AUTO}" and a.partition("=")[0] not in replaced]
    at = arguments.index(f"{group}={AUTO}")
    front = sum(a in rest for a in arguments[:at])
    own = [f"{group}.{key}={_quoted(value)}" for key, value in values.items()
           if key not in given or key in list(node)]  # fmt: skip
    return [*rest[:front], f"{group}={option}", *own, *rest[front:]]


def _given(group: str, arguments: list[str]) -> dict[str, object]:
    """The group's keys with one value each.

    Raises:
        HydraException: one of them cannot be read.
    """
    found = {}
    for text in arguments:
        if not text.lstrip("+").startswith(f"{group}.") or "=" not in text:
            continue
        override = OverridesParser.create().parse_override(text)
        if override.is_sweep_override():
            raise UserError(f"{text}: {group}={AUTO} takes one value; name the {group} of a sweep")
        found[override.key_or_group.partition(".")[2]] = override.value()
    return found


def _quoted(value: object) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_quoted(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_quoted, value)) + "]"
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    return "null" if value is None else str(value).lower()
