"""What a command line chooses, checked before Hydra reads it: options of groups, search paths.

No import of torch here: see `engine.cli`.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.override_parser.types import Override

from engine.config import keys
from engine.config.explain import CHECKPOINT_COMMANDS, kept_by_checkpoint
from engine.config.schema import CONFIGS
from engine.errors import UserError

WEIGHTS = (".pt", ".pth", ".ckpt", ".th", ".weights", ".safetensors")


def check_choice(override: Override, text: str, config_name: str) -> None:
    """Refuse a value that is not the name of an option; leave out a null that is the default."""
    group, value = override.key_or_group, override.value()
    if override.is_delete() or isinstance(value, dict):
        return
    if value is None and _is_optional(config_name, group):
        sys.argv.remove(text)
        return
    names: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in names):
        if config_name in CHECKPOINT_COMMANDS and not _has_group(config_name, group):
            raise UserError(kept_by_checkpoint(group, group, config_name, sys.argv[1:]))
        own = sorted(
            {key for option in keys.options(group) for key in keys.own_keys(group, option)}
        )
        own = [key for key in own if "_" not in key.split(".")[1][:1] and group not in keys.PRESETS]
        hint = f"; keys are set one by one: {', '.join(own[:6])}" if own else ""
        raise UserError(f"{text}: expected the name of an option: {_few(group)}{hint}")
    if any("/" in item and not (CONFIGS / group / f"{item}.yaml").is_file() for item in names):
        _refuse_path(group, text, str(names[0]))
    if Path(str(names[0])).suffix.lower() in (*WEIGHTS, ".yaml", ".yml"):
        _refuse_path(group, text, str(names[0]))


def _refuse_path(group: str, text: str, value: str) -> None:
    """Refuse a path in place of an option's name."""
    path = Path(value)
    if group == "dataset":
        raise UserError(
            f"{text}: expected a format, with the folder beside it: dataset=auto (or voc, coco, "
            f"yolo, csv, image_folder) with dataset.root={path.parent if path.suffix else path}"
        )
    if path.suffix.lower() in WEIGHTS and group in ("model", "backbone"):
        raise UserError(
            f"{text}: expected the name of an option: {_few(group)}; a file of weights is "
            f"backbone.weights={value}, a checkpoint of train.py eval.py checkpoint={value}"
        )
    if path.suffix or path.is_absolute():
        raise UserError(f"{text}: expected the name of an option: {_few(group)}")


def _few(group: str) -> str:
    names = keys.options(group)
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _has_group(config_name: str, group: str) -> bool:
    try:
        keys.default_choice(config_name, group)
    except KeyError:
        return False
    return True


def _is_optional(config_name: str, group: str) -> bool:
    try:
        return keys.default_choice(config_name, group) is None
    except KeyError:
        return False


def check_search_path(folders: Any) -> None:
    """Refuse a folder of configurations that is not there, or that holds no folder of a group."""
    for place in folders if isinstance(folders, list) else [folders]:
        scheme, _, rest = str(place).rpartition("://")
        text = f"hydra.searchpath={place}"
        if scheme == "pkg":
            if not _is_importable(rest.replace("/", ".")):
                raise UserError(f"{text}: no such package; is its folder in PYTHONPATH?")
            continue
        folder = Path(rest)
        if not folder.is_dir():
            raise UserError(f"{text}: no such folder; expected [file://FOLDER]")
        if not _groups_in(folder):
            _refuse_level(text, folder)


def _groups_in(folder: Path) -> list[str]:
    return [group for group in keys.groups() if (folder / group).is_dir()]


def _refuse_level(text: str, folder: Path) -> NoReturn:
    """Refuse a folder without groups, and name the one below or above it that has some."""
    near = [folder.parent, *sorted(p for p in folder.iterdir() if p.is_dir())]
    if folder.name in keys.groups():
        near.insert(0, folder.parent)
    found = next((place for place in near if _groups_in(place)), None)
    hint = f"; set hydra.searchpath=[file://{found.resolve()}]" if found else ""
    raise UserError(
        f"{text}: expected a folder with folders of groups in it (backbone/NAME.yaml){hint}"
    )


def _is_importable(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
