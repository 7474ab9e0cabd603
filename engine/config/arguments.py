"""The command line before Hydra reads it: what is no key=value is answered here, ~ is expanded.

No import of torch here: see `engine.cli`.
"""

import os
import re
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from engine.config import keys
from engine.config.choices import WEIGHTS, check_choice, check_search_path
from engine.config.meant import meant
from engine.config.schema import CONFIGS
from engine.errors import UserError

QUOTE = "quote odd characters twice: \"key='a b=c'\""
SCRIPTS = {"train": "train", "eval": "evaluate", "predict": "predict"}  # and their functions
# Each of these alone asks for something else than a run.
ALONE = ("run", "multirun", "cfg", "info", "shell_completion")


def program(name: str) -> str:
    """How messages call a command: `onelook train` where it was started so, else `train.py`."""
    if sys.argv[0].startswith("onelook "):
        return f"onelook {name}"
    return f"{name}.py" if name in SCRIPTS else f"python -m {_module(name)}"


def start(name: str) -> str:
    """How a command line of it begins: `python train.py`, `onelook train`."""
    called = program(name)
    return f"python {called}" if called.endswith(".py") else called


def place(name: str) -> tuple[str, str]:
    """The module and the function that run a command."""
    if name in SCRIPTS:
        return "engine.commands", SCRIPTS[name]
    return (_module(name) if name == "kmeans" else f"{_module(name)}.__main__"), "main"


def _module(name: str) -> str:
    """What `python -m` runs a tool by."""
    return f"{'detect' if name == 'kmeans' else 'engine'}.{name}"


def check_arguments(name: str, config_name: str) -> Namespace:
    """The command line as Hydra's parser has it.

    Arguments that Hydra would answer in many lines or misread are refused.

    Raises:
        UserError: with what the user meant, as far as that can be guessed.
    """
    given = _flags(sys.argv[1:], name, config_name)
    _refuse_expanded(given.overrides)
    sweep = given.multirun or "hydra.mode=MULTIRUN" in given.overrides
    _refuse_words([a for a in given.overrides if not re.match(r"~[\w$]|[+~]*[\w$][^=]*=", a)], name)
    for text in given.overrides:
        override = _read(text)
        if override.is_sweep_override() and not sweep:
            _refuse_sweep(override, text, name)
        if override.key_or_group.startswith(("hydra/sweeper", "hydra.sweeper")) and not sweep:
            raise UserError(f"{text}: of a sweep, which begins with {start(name)} -m")
        if sweep and override.is_sweep_override() and not override.is_discrete_sweep():
            _check_searched(text, given.overrides)
        if override.key_or_group in keys.groups() and not override.is_sweep_override():
            check_choice(override, text, config_name)
        if override.key_or_group == "hydra.searchpath":
            check_search_path(override.value())
    return given


def without_sweeps(given: Namespace) -> list[str]:
    """The overrides of one value, as far as they are still to be composed."""
    left = [text for text in given.overrides if text in sys.argv]
    return [text for text in left if not _read(text).is_sweep_override()]


def _read(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
        _refuse_huge(override.value())
    except HydraException as error:
        raise UserError(f"{text}: cannot be read; {QUOTE}") from error
    except (ValueError, OverflowError) as error:
        key, _, value = text.partition("=")
        raise UserError(
            f"{key}={value[:20]}...: a number of {len(value)} digits; expected one of at most 308"
        ) from error
    return override


def _refuse_expanded(overrides: list[str]) -> None:
    """Refuse the tars that a shell made of one pattern, of which the last would count alone."""
    keys = Counter(text.partition("=")[0] for text in overrides if text.endswith(".tar"))
    for key, times in keys.items():
        if times > 1:
            raise UserError(
                f"{key}: {times} times: a shell expands braces, so quote the pattern: "
                f'"{key}=train-{{000..099}}.tar"'
            )


def _refuse_huge(value: Any) -> None:
    """OverflowError where a whole number, alone or inside a list or dict, is above all floats."""
    if isinstance(value, int):
        float(value)
    for item in [*value, *value.values()] if isinstance(value, dict) else []:
        _refuse_huge(item)
    for item in value if isinstance(value, list) else []:
        _refuse_huge(item)


def _flags(arguments: list[str], name: str, config_name: str) -> Namespace:
    """The command line by Hydra's own parser; an option that it lacks is answered in one line."""

    def fail(message: str) -> NoReturn:
        raise UserError(f"{message}; `{program(name)} --help` lists what there is")

    parser = get_args_parser()
    parser.error = fail  # type: ignore[method-assign]
    given, unknown = parser.parse_known_args(arguments)
    if unknown and not unknown[0].startswith("-"):  # it stood behind an option: `a=1 --cfg job b=2`
        given.overrides += unknown
        rest = [a for a in arguments if a not in given.overrides]
        sys.argv[1:] = [*rest, *given.overrides]
    elif unknown:
        flag, _, value = unknown[0].partition("=")
        after = arguments[arguments.index(unknown[0]) + 1 :]
        if not value and after and not after[0].startswith("-") and "=" not in after[0]:
            value = after[0]
        known = keys.known(config_name, arguments)
        hint = meant(flag, value, known, config_name)
        raise UserError(f"{unknown[0]}: settings are key=value, without dashes{hint}")
    asked = [option for option in ALONE if getattr(given, option)]
    if len(asked) > 1:
        raise UserError(f"--{asked[0]} and --{asked[1]}: one of them at a time")
    if given.resolve and not given.cfg:
        raise UserError("--resolve: goes with --cfg job")
    if given.experimental_rerun:
        raise UserError("--experimental-rerun: reads a pickle, which can run code; never read here")
    _check_config_name(given.config_name, config_name)
    return given


def _check_config_name(asked: str | None, config_name: str) -> None:
    others = [path.stem for path in CONFIGS.glob("*.yaml") if path.stem != config_name]
    if asked and Path(asked).stem in others:
        raise UserError(
            f"-cn {asked}: not a configuration of this command, which has {config_name}"
        )


def expand_home(text: str) -> str:
    """`key=~/x` with the home folder for ~, also quoted, in a list, and after file://."""
    head, equals, value = text.partition("=")
    if not re.search(r"(^|[\[,'\"/])~", value):
        return text
    whole = re.fullmatch(r"(['\"]?)(~[^'\",]*)\1", value)
    if whole:  # quoted, as a home folder may have odd characters
        path = os.path.expanduser(whole[2]).replace("'", "\\'")
        return f"{head}{equals}'{path}'" if path != whole[2] else text
    home = re.compile(r"(?<=[\[,'\"])(file://)?(~[^/,\]'\"]*)(?=[/,\]'\"])")
    return head + equals + home.sub(lambda m: (m[1] or "") + os.path.expanduser(m[2]), value)


def readable(text: str) -> str:
    """The argument as Hydra's grammar reads it: ~ expanded, a value with {000..099} quoted."""
    head, equals, value = expand_home(text).partition("=")
    if re.fullmatch(r"[^'\",{\[][^'\",]*\{\d*\.\.\d*\}[^'\",]*", value):
        value = f"'{value}'"
    return head + equals + value


def _refuse_words(words: list[str], name: str) -> None:
    """Refuse what is not key=value: usually a file, a folder or an option's name alone."""
    if not words:
        return
    if words[0].startswith(("@", "=")):
        raise UserError(f"{words[0]}: no key in front of it; expected key=value")
    here = [_as_setting(word, name) for word in words]
    known = f"; did you mean {' '.join(here)}?" if all(here) else f" (`{program(name)} --help`)"
    raise UserError(f"{' '.join(words).strip() or repr('')}: expected key=value{known}")


def _as_setting(word: str, name: str) -> str:
    """The setting that a word alone stands for, or ""."""
    path = Path(word)
    if path.suffix.lower() in WEIGHTS:
        return f"{'resume' if name == 'train' else 'checkpoint'}={word}"
    if having := [group for group in keys.groups() if word in keys.options(group)]:
        return f"{'model' if 'model' in having else having[0]}={word}"
    if path.suffix in (".yaml", ".yml"):
        return f"dataset=auto dataset.root={word}" if name in SCRIPTS else ""
    if name == "predict" and (path.suffix or path.exists()):
        return f"source={word}"
    return f"dataset=auto dataset.root={word}" if word and path.is_dir() else ""


def _check_searched(text: str, overrides: list[str]) -> None:
    """Refuse an interval, which is no list, where no sweeper draws values from it."""
    if not any(other.startswith("hydra/sweeper=") for other in overrides):
        raise UserError(f"{text}: an interval is for a search: add hydra/sweeper=study")


def _refuse_sweep(override: Override, text: str, name: str) -> NoReturn:
    """Refuse several values where one run takes one."""
    key, value = override.key_or_group, text.partition("=")[2]
    lists = "" if key in keys.groups() else f"; a list is {key}=[{value}]"
    if key == "image_size":
        lists = f"; {key}=416 is a square, {key}=[{value}] a height and a width"
    raise UserError(f"{text}: several values are a sweep: {start(name)} -m {text}{lists}")
