"""The text of `--help`: what a command does, examples, its groups, its keys with a line each.

Words of commands and groups are in configs/help.yaml; a key's line is the comment behind it, its
value that of the configuration as the command line composes it. No import of torch here.
"""

import re
import textwrap
from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple, get_type_hints

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from engine.config import comments, keys
from engine.config.arguments import program, start, without_sweeps
from engine.config.schema import CONFIGS, plain_value
from engine.errors import UserError

ANSWERED = ("source", "checkpoint")  # where they do not belong, the commands say why
WIDTH = 80  # columns
COLUMN = 34  # where the lines of keys begin, at most
LONGEST = 40  # of a value, characters; more are cut


class Key(NamedTuple):
    """A row of the help."""

    name: str
    value: Any
    text: str


def help_text(name: str, config_name: str, given: Namespace) -> str:
    """What `--help` prints for a command with the arguments given.

    Raises:
        HydraException: they do not compose.
    """
    words = help_words()
    cfg = _compose(config_name, given)
    about, begin = words["commands"][name], start(name)
    usage = [f"{begin} {line}" for line in about["usage"]]
    blocks = [
        textwrap.indent("\n".join(usage), " " * 7).replace(" " * 7, "usage: ", 1),
        _wrap(" ".join([about["does"], about.get("more", "")])),
        "Examples:",
        *(f"  {what}\n{_command(f'{begin} {line}')}" for what, line in about["examples"].items()),
        *_group_block(cfg, config_name),
        *_key_blocks(cfg, config_name, required(about["usage"])),
        _hydra_block(cfg),
    ]
    return "\n\n".join(blocks)


@cache
def help_words() -> dict[str, Any]:
    """The words of commands and groups, from configs/help.yaml."""
    return OmegaConf.to_container(OmegaConf.load(CONFIGS / "help.yaml"))  # type: ignore[return-value]


def required(usage: Iterable[str]) -> set[str]:
    """The keys that a usage has outside brackets; none if one of its lines has none."""
    lines = [line.partition("[")[0].split() for line in usage]
    return {item.partition("=")[0] for line in lines for item in line if all(lines)}


def first_sentence(name: str) -> str:
    """What a command does, in a sentence."""
    return re.split(r"(?<=[.]) ", help_words()["commands"][name]["does"], maxsplit=1)[0]


def _compose(config_name: str, given: Namespace) -> DictConfig:
    """The configuration, `hydra` included, that the arguments compose; sweeps are left out."""
    # the checkpoint that `resume=` names determines what is given besides
    overrides = [] if config_name == "resume" else without_sweeps(given)
    if given.config_dir:
        overrides.append(f"hydra.searchpath=['file://{given.config_dir}']")
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(given.config_name or config_name, overrides, return_hydra_config=True)


def _choices(cfg: DictConfig, config_name: str) -> dict[str, str | None]:
    """The option of each group that the command reads, in the order of the groups' table."""
    chosen = cfg.hydra.runtime.choices
    read = _read(config_name)
    groups = [group for group in help_words()["groups"] if group in chosen]
    if read is not None:
        of_parts = {key.partition(".")[0] for key in read} - {*keys.PRESETS}
        groups = [g for g in groups if g in read or g.partition("/")[0] in of_parts]
    return {group: chosen[group] for group in groups}


def refuse_unread(name: str, config_name: str, given: Namespace) -> None:
    """Refuse a key that stands in the configuration and does nothing for this command.

    Raises:
        UserError: naming it.
    """
    read = {key.partition(".")[0] for key in _read(config_name) or ()}
    known = {field.name for field in fields(keys.schema_of(config_name))}
    known -= {*keys.groups(), *ANSWERED} - {"dataset", "metric"}
    for text in given.overrides:
        key = text.lstrip("+~").partition("=")[0].partition(".")[0]
        if key in known - read:
            raise UserError(f"{text}: {program(name)} does not read {key}; --help lists its keys")


def _read(config_name: str) -> list[str] | None:
    """The keys and groups that a configuration's command reads; None for all."""
    return help_words()["reads"].get(config_name)


def _group_block(cfg: DictConfig, config_name: str) -> Iterator[str]:
    """The groups with their options."""
    if choices := _choices(cfg, config_name):
        yield _wrap("Groups: GROUP=OPTION chooses a part or a preset; [OPTION] is chosen now.")
        yield "\n".join(_group(group, chosen) for group, chosen in choices.items())


def _group(group: str, chosen: str | None) -> str:
    """What a group is, and its options below."""
    names = keys.options(group)
    if chosen and chosen not in names:  # from hydra.searchpath
        names.append(chosen)
    shown = " ".join(f"[{name}]" if name == chosen else name for name in names)
    return f"  {group}: {help_words()['groups'][group]}\n{_wrap(shown, 6)}"


def _key_blocks(cfg: DictConfig, config_name: str, marked: set[str]) -> Iterator[str]:
    """The keys by what they belong to, each a row, below the title of each block."""
    sections = [(title, rows) for title, rows in _sections(cfg, config_name) if rows]
    is_marked = any(_is_marked(row, marked) for _, rows in sections for row in rows)
    note = " * marks what has to be set, as in the usage." if is_marked else ""
    yield _wrap(f"Keys: KEY=VALUE, with the value of now.{note}")
    for title, rows in sections:
        yield "\n".join([_wrap(title, 2), *_table(rows, marked)]).lstrip("\n")


def _is_marked(row: Key, marked: set[str]) -> bool:
    """Whether the key has to be set."""
    return row.value == "???" or row.name.removesuffix(".KEY") in marked


def _sections(cfg: DictConfig, config_name: str) -> Iterator[tuple[str, list[Key]]]:
    """The title and the keys of the command itself, of its nodes, and of the parts chosen."""
    schema, read = keys.schema_of(config_name), _read(config_name)
    yield "", list(own_keys(cfg, schema, read))
    hints = get_type_hints(schema)
    for name, hint in hints.items():
        if is_dataclass(hint):
            inner = own_keys(cfg[name], hints[name], read, f"{name}.")
            yield f"{name}: {(hint.__doc__ or '').splitlines()[0]}", list(inner)
    for group, chosen in _choices(cfg, config_name).items():
        if chosen and OmegaConf.is_dict(node := cfg.get(group)) and "_target_" in node:
            rows = part_keys(node, group, _lines(group, cfg))
            title = f"{group}={chosen} ({node._target_})"
            yield title, [row for row in rows if _is_read(row.name, read)]


def own_keys(
    node: DictConfig, schema: type, read: list[str] | None, prefix: str = ""
) -> Iterator[Key]:
    """The keys of a dataclass that the command reads, without its nodes and parts, in its order."""
    texts, hints = comments.of_schema(schema), get_type_hints(schema)
    names = [f"{prefix}{field.name}" for field in fields(schema)]
    order = read if read is not None and not prefix else names
    for name in (name for name in order if name in names and _is_read(name, read)):
        leaf = name.removeprefix(prefix)
        if OmegaConf.is_missing(node, leaf) or is_dataclass(hints[leaf]):
            continue
        value = node[leaf]
        if not OmegaConf.is_dict(value):
            yield Key(name, plain_value(value), texts[leaf])
        elif "_target_" not in value:  # what is set here changes the checkpoint's
            yield Key(f"{name}.KEY", "VALUE", texts[leaf])


def part_keys(node: DictConfig, prefix: str, texts: dict[str, str]) -> Iterator[Key]:
    """The keys of a part, then those of the parts in it."""
    plain: Any = OmegaConf.to_container(node, resolve=False)
    nodes = [key for key, value in plain.items() if isinstance(value, dict) and value]
    for key, value in plain.items():
        if key not in nodes and not str(key).startswith("_"):
            yield Key(f"{prefix}.{key}", value, texts.get(f"{prefix}.{key}", ""))
    for key in nodes:
        yield from part_keys(node[key], f"{prefix}.{key}", texts)


def _lines(group: str, cfg: DictConfig) -> dict[str, str]:
    """The line of each key of a group, and of the groups inside it."""
    chosen = cfg.hydra.runtime.choices
    inner = [name for name in keys.NESTED if name.startswith(f"{group}/")]
    lines = (comments.of_option(g, chosen[g]) for g in (group, *inner) if chosen.get(g))
    return {key: text for found in lines for key, text in found.items()}


def _is_read(name: str, read: list[str] | None) -> bool:
    return read is None or any(name == key or name.startswith(f"{key}.") for key in read)


def _table(rows: list[Key], marked: set[str]) -> Iterator[str]:
    """`key=value` and the key's line beside it, or below it where there is no room."""
    lefts = [
        f"{'*' if _is_marked(row, marked) else '':>3} {row.name}={_value(row.value)}"
        for row in rows
    ]
    column = min(max(map(len, lefts)) + 2, COLUMN)
    for left, row in zip(lefts, rows, strict=True):
        text = textwrap.wrap(row.text, WIDTH - column)
        if len(left) < column - 1 and text:
            left = f"{left:{column}}{text.pop(0)}"
        yield "\n".join([left, *(" " * column + line for line in text)])


def _value(value: Any) -> str:
    """A value as the command line takes it, cut where it is long."""
    text = _inner(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _inner(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_inner, value))}]"
    return str(getattr(value, "name", value))


def _hydra_block(cfg: DictConfig) -> str:
    """What Hydra adds to every command."""
    folder = "" if cfg.hydra.run.dir == "." else "hydra.run.dir=FOLDER is where files go. "
    return _wrap(
        f"{folder}`--cfg job` prints the whole configuration and runs nothing; "
        "`-m KEY=A,B` runs once for each value; `--hydra-help` lists Hydra's other options."
    )


def _command(line: str) -> str:
    """A command as it can be pasted, over two lines where it is long."""
    lines = textwrap.wrap(line, WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    return "    " + " \\\n        ".join(lines)


def _wrap(text: str, indent: int = 0) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
