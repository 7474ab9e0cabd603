"""What the command line of a run that goes on says of what its checkpoint determines.

The same line can start a run and go on with it: what it says of the network, the data and the rest
must equal what the run was started with. No torch here.
"""

import glob
import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from engine.config import keys
from engine.config.schema import CONFIGS, ResumeConfig, TrainConfig
from engine.errors import UserError

CHECKPOINTS = ("last.pt", "best.pt")  # an older version's best.pt resumes too


def run_dir(arguments: list[str]) -> str | None:
    """Return the value of the last `hydra.run.dir=` of a command line; None without one."""
    given = [a for a in arguments if a.startswith("hydra.run.dir=")]
    if not given:
        return None
    value = OverridesParser.create().parse_override(given[-1]).value()
    return str(OmegaConf.create({"dir": value}).dir)  # "runs/${oc.env:JOB}"


def find(run_dir: str | None) -> str | None:
    """Return the checkpoint that `resume=auto` goes on from; None: the run starts.

    Args:
        run_dir: hydra.run.dir of the command line.

    Raises:
        UserError: the checkpoint is broken; or no folder is given and no run is here.
    """
    pattern = f"{glob.escape(run_dir)}/" if run_dir else "outputs/*/*/"
    for name in CHECKPOINTS:
        paths = glob.glob(f"{pattern}checkpoints/{name}")
        if paths:
            return str(_intact(Path(max(paths, key=os.path.getmtime))))
    if run_dir is None:
        raise UserError(
            f"resume=auto: no {pattern}checkpoints/last.pt here; with hydra.run.dir=FOLDER the "
            "same command starts a run there and goes on with it"
        )
    return None


def _intact(path: Path) -> Path:
    if zipfile.is_zipfile(path):
        return path
    raise UserError(
        f"resume=auto: {path} is broken (no whole checkpoint); set overwrite=true in place of "
        "resume=auto to start anew"
    )


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that may change a resumed run, and what its checkpoint must equal."""
    groups = keys.groups()
    changeable = {*ResumeConfig.__dataclass_fields__, "hydra"}
    changes, unchanged = [], []
    for argument in arguments:
        key, _, value = argument.lstrip("+~").partition("=")
        is_choice = key in groups and not value.startswith("{")
        is_option = argument.startswith("-") or not ("=" in argument or argument.startswith("~"))
        top = re.split(r"[./@]", key)[0]
        may_change = top in changeable and (not is_choice or top == "tracker")
        (changes if is_option or may_change else unchanged).append(argument)
    return changes, unchanged


def quoted(overrides: list[str]) -> str:
    """Return overrides as a list in Hydra's grammar."""
    return f"[{','.join(QuotedString(o, Quote.single).with_quotes() for o in overrides)}]"


def check_unchanged(
    overrides: list[str], saved: dict[str, Any], choices: Mapping[str, str | None] | None
) -> None:
    """Refuse an override that differs from what a checkpoint was trained with.

    Args:
        overrides: of the command line.
        saved: the checkpoint's configuration.
        choices: what its run chose of each group; None where an older version wrote it.

    Raises:
        UserError: naming the key and both values.
    """
    parsed = OverridesParser.create().parse_overrides(overrides)
    for override in {o.key_or_group: o for o in parsed}.values():  # the last one wins
        key = override.key_or_group
        is_group = key in (choices or ()) or (CONFIGS / key).is_dir()
        if is_group and not isinstance(override.value(), dict):
            if choices is None:
                raise UserError(
                    f"{override.input_line}: this checkpoint of an older version does not keep "
                    f"what was chosen; leave {key}= out"
                )
            before, now = choices.get(key), None if override.is_delete() else override.value()
        else:
            before, now = _values(override, saved)
        was_fitted = now == "auto" and not isinstance(before, str)  # to the data, and kept
        if before != now and not was_fitted:
            raise UserError(
                f"{key}={_shown(now)}: this run was started with {key}={_shown(before)}, which a "
                f"resumed run keeps; leave {key} out, or start another run: set another "
                "hydra.run.dir"
            )


def _values(override: Override, saved: dict[str, Any]) -> tuple[Any, Any]:
    """The value of a key in a checkpoint's configuration, and the one that an override gives it."""
    cfg: Any = OmegaConf.merge(OmegaConf.structured(TrainConfig), saved)
    OmegaConf.set_struct(cfg, False)
    key = override.key_or_group
    before = _plain(OmegaConf.select(cfg, key))
    if override.is_delete():
        return before, None
    OmegaConf.update(cfg, key, override.value(), force_add=True)
    return before, _plain(OmegaConf.select(cfg, key))


def _plain(node: Any) -> Any:
    if not OmegaConf.is_config(node):
        return node
    return OmegaConf.to_container(node, resolve=True, enum_to_str=True)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def is_over(trainer: DictConfig, *, epoch: int, stale: int) -> bool:
    """Whether the epochs or the patience of a run are used up."""
    is_stale = trainer.patience is not None and stale >= trainer.patience
    return is_stale or (trainer.epochs is not None and epoch >= trainer.epochs)


def finished(checkpoint: str, saved: dict[str, Any], cfg: DictConfig) -> dict[str, Any] | None:
    """Return metrics.json of a run that has trained and written all; None if something is left.

    Args:
        checkpoint: of the run, in its folder.
        saved: what is in it.
        cfg: the run's configuration, changed by the command line.
    """
    minutes = cfg.trainer.minutes
    is_late = minutes is not None and saved["seconds"] >= 60 * minutes
    ended = is_late or is_over(cfg.trainer, epoch=saved["epoch"], stale=saved["stale"])
    results = Path(checkpoint).parents[1] / "metrics.json"
    if saved["progress"].get("batches") or not ended or not results.is_file():
        return None
    if results.stat().st_mtime_ns < os.stat(checkpoint).st_mtime_ns:
        return None  # of fewer epochs
    try:
        return json.loads(results.read_text(encoding="utf-8"))
    except ValueError:
        return None
