"""Errors of Hydra and OmegaConf in one line: what was got, what is expected.

No import of torch here: see `engine.cli`.
"""

import re
from dataclasses import is_dataclass
from enum import EnumMeta
from pathlib import Path
from typing import Any, get_type_hints

from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.config import keys
from engine.config.check import has_keys
from engine.config.meant import meant
from engine.config.ranges import words
from engine.config.renamed import new_key, new_option
from engine.config.schema import CONFIGS
from engine.errors import did_you_mean

CHECKPOINT_COMMANDS = ("eval", "predict", "resume")


def explain(error: Exception, config_name: str, arguments: list[str]) -> str:
    """The error of composing `config_name` for this command line, in one line."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_option(error.missing_cfg_file, list(error.options or ()), arguments)
    text = str(error).strip()
    if key := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(_with_inner_key(key[1], error), config_name, arguments)
    if value := re.match(r"Error merging override (.*)", text):
        return _wrong_value(value[1], error, config_name, arguments)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        text = f"{error.full_key}: {_first_line(error)}"
    elif not isinstance(error, HydraException | OmegaConfBaseException):
        text = _foreign(error, arguments)
    elif isinstance(error, InstantiationException):
        return _not_built(text)
    elif circle := re.match(r"Error resolving interpolation '([^']+)'", text):
        given = [a for a in arguments if circle[1] in a]
        return f"{given[0] if given else circle[1]}: refers to no option of a group"
    return text.split("\n")[0]


def _not_built(text: str) -> str:
    """A part whose constructor failed: its key, which Hydra states last, and the reason."""
    text, _, key = " ".join(text.split()).partition(" full_key: ")
    return f"{key}: {text}" if key else text


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def _foreign(error: Exception, arguments: list[str]) -> str:
    """An error of Hydra's that is no HydraException."""
    if isinstance(error, RecursionError):
        return "values refer to each other in a circle (${...}), or are nested too deep"
    given = " ".join(a for a in arguments if a.lstrip("+~").startswith("hydra")) or "arguments"
    what = _first_line(error) or "a value that it does not take"
    return f"{given}: Hydra refuses this ({type(error).__name__}: {what})"


def _missing_option(missing: str, found: list[str], arguments: list[str]) -> str:
    """An option that its group lacks; options may be in folders: `experiment=ladder/1_largest`."""
    if "/" not in missing:
        programs = "train.py, eval.py and predict.py have their own"
        return f"-cn {missing}: no such configuration; {programs}: choose model=, experiment=, ..."
    chosen = [a.lstrip("+").split("=")[0].split("@")[0] for a in arguments]
    parents = [p.as_posix() for p in Path(missing).parents if p.as_posix() in chosen]
    group = parents[0] if parents else missing.partition("/")[0]
    option = missing.removeprefix(f"{group}/")
    known = keys.options(group) if (CONFIGS / group).is_dir() else found
    if now := new_option(group, option):
        return f"{group}={option}: this is called {group}={now} now"
    hint = did_you_mean(option, known)
    return f"{group}={option}: no such {group}{hint or ';'} there are: {', '.join(known)}"


def _with_inner_key(key: str, error: Exception) -> str:
    """The key that is unknown, where a dict was set: `clip.a` of `clip={a: 1}`."""
    inner = str(getattr(error.__cause__, "full_key", ""))
    return inner if inner.startswith(f"{key}.") else key


def _unknown_key(key: str, config_name: str, arguments: list[str]) -> str:
    group = key.split(".")[0]
    if config_name in CHECKPOINT_COMMANDS and group in (
        *keys.groups(),
        "image_size",
        "preprocessing",
    ):
        return kept_by_checkpoint(key, group, config_name, arguments)
    if key.startswith("hydra.sweeper.") and "hydra/sweeper=study" in arguments:
        known = sorted(OmegaConf.load(CONFIGS / "hydra/sweeper/study.yaml"))  # type: ignore
        hint = did_you_mean(key.rpartition(".")[2], known)
        return f"{key}: no such key{hint or ';'} there are: {', '.join(known[1:])}"
    value = next((a.partition("=")[2] for a in arguments if _is_set_by(key, a)), "")
    known = keys.known(config_name, arguments)
    if now := new_key(key, known, config_name):
        return f"{key}: this key is called {now} now"
    hint = meant(key, value, known, config_name)
    if not hint and config_name != "train":
        hint = meant(key, value, keys.known("train"))
        hint = hint and f"{hint.rstrip('?')} of train.py"
    return f"{key}: no such key{hint or ' (`--cfg job` lists them all)'}"


def _is_set_by(key: str, argument: str) -> bool:
    return argument.lstrip("+~").split("=")[0].split("@")[0] == key


def kept_by_checkpoint(key: str, group: str, config_name: str, arguments: list[str]) -> str:
    """The answer to a key of a part that a checkpoint determines."""
    if config_name == "resume" or any(_is_set_by("checkpoint", a) for a in arguments):
        return f"{key}: the checkpoint determines {group}; choose it when training starts"
    other = "model=resnet50 backbone.weights=DEFAULT source=FOLDER"
    if config_name == "predict":
        return f"{key}: set checkpoint=PATH, or the whole network: {other}"
    return (
        f"{key}: eval.py scores checkpoint=PATH, or predictions=FILE with dataset= and metric=; of "
        f"weights from elsewhere predict.py {other} writes such a file"
    )


def _wrong_value(text: str, error: Exception, config_name: str, arguments: list[str]) -> str:
    """A value of another type than the schema's."""
    key, _, value = text.lstrip("+").partition("=")
    hint = _hint(keys.schema_of(config_name, arguments), key.split("."))
    if hint is None:
        return f"{text}: {_first_line(error.__cause__ or error)}"
    if is_dataclass(hint):
        return f"{key}={value}: {has_keys(key, hint)}"
    return f"{key}={value}: expected {_words(hint)}"


def _hint(schema: Any, path: list[str]) -> Any:
    """The annotation of a dotted key, or None."""
    for name in path:
        schema = (
            get_type_hints(schema, include_extras=True).get(name) if is_dataclass(schema) else None
        )
    return schema


def _words(hint: Any) -> str:
    return " or ".join(hint.__members__) if isinstance(hint, EnumMeta) else words(hint)
