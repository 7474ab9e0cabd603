"""The frame every command runs in: compose, check, run, and say in one line what is wrong.

No torch here: a command composes and checks its configuration before anything heavy loads.
"""

import atexit
import functools
import glob
import logging
import os
import re
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.config.renamed import new_key, new_option
from engine.config.schema import CONFIGS
from engine.errors import Stopped, UserError, did_you_mean

# What a process of torchrun's that is not the first leaves to the first: files, and the console.
SILENT = ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra.job_logging.root.handlers=[]",
          "~hydra.job_logging.handlers.file"]  # fmt: skip

logging.raiseExceptions = False  # a line that no one reads any more (`| head`) is no error


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for key in node if isinstance(node, DictConfig) and not node._is_none() else ():
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(node, key):
            yield from _keys(node[key], f"{prefix}{key}.")


def _groups() -> set[str]:
    return {p.name for p in CONFIGS.iterdir() if p.is_dir()}


def _options(group: str) -> list[str]:
    files = [p.relative_to(CONFIGS / group) for p in (CONFIGS / group).rglob("*.yaml")]
    return sorted(p.with_suffix("").as_posix() for p in files if not p.parts[0].startswith("_"))


def _known_keys(config_name: str) -> list[str]:
    """Every key of the configuration as the command line's own group choices compose it."""
    wanted = (*_groups(), "hydra.searchpath")
    chosen = [a for a in sys.argv[1:] if a.split("=")[0] in wanted and "," not in a]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            return list(_keys(hydra.compose(config_name, overrides=chosen)))
        except HydraException:  # one of the choices is the mistake
            return list(_keys(hydra.compose(config_name)))


def _explain(error: Exception, config_name: str) -> str:
    """One line from Hydra's several: what was got, what was expected."""
    key = re.search(r"Could not override '([^']+)'", str(error))
    if isinstance(error, MissingConfigException) and (missing := error.missing_cfg_file):
        group, _, option = missing.rpartition("/") if error.options else missing.partition("/")
        options = error.options or _options(group)  # in folders Hydra knows of none
        if now := new_option(group, option):
            return f"{group}={option}: this is called {group}={now} now"
        near = did_you_mean(option, options)
        return f"{group}={option}: no such {group}{near or ';'} there are: {', '.join(options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read; quote odd characters: \"key='a b=c'\""
    group = key[1].split(".")[0] if key else ""
    own = {*_groups(), "image_size", "preprocessing"}
    if key and config_name in ("eval", "predict", "resume") and group in own:
        return f"{key[1]}: a checkpoint keeps its own {group}; choose it when training starts"
    if key:
        known = _known_keys(config_name)
        if now := new_key(key[1], known, config_name):
            return f"{key[1]}: this key is called {now} now"
        near = did_you_mean(key[1], known)
        return f"{key[1]}: no such key{near} (`--cfg job` lists them all)"
    lines = [str(error).replace("Error merging override ", "").split("\n")[0]]
    if error.__cause__ is not None:
        lines.append(str(error.__cause__).split("\n")[0])
    return ": ".join(line for line in lines if line)


def _config_name(name: str) -> str:
    """What the arguments turn the command into.

    `predict.py model=...` composes a network, `eval.py truth=...` a data set; a resumed run starts
    from the checkpoint's configuration, in the checkpoint's run folder.
    """
    if name == "predict" and any(a.startswith("model=") for a in sys.argv):
        return "pretrained"
    if name == "eval" and any(a.startswith("truth=") for a in sys.argv):
        return "eval_truth"
    if name != "train" or not any(a.startswith("resume=") for a in sys.argv):
        return name
    at = next(i for i, a in enumerate(sys.argv) if a.startswith("resume="))
    path = sys.argv[at].removeprefix("resume=")
    if path == "auto":
        path = str(_newest())
    sys.argv[at] = f"resume='{path}'"
    checkpoint = Path(path).resolve()
    if checkpoint.is_file() and checkpoint.parent.name == "checkpoints":
        sys.argv.insert(at, f"hydra.run.dir='{checkpoint.parent.parent}'")  # one given later wins
    return "resume"


def _newest() -> Path:
    """The last checkpoint that is whole, of the run folder given or of all runs here."""
    said = [a.partition("=")[2] for a in sys.argv if a.startswith("hydra.run.dir=")]
    pattern = f"{glob.escape(said[-1])}/" if said else "outputs/*/*/"
    found = [Path(p) for p in glob.glob(f"{pattern}checkpoints/last.pt") if zipfile.is_zipfile(p)]
    if not found:
        raise UserError(f"resume=auto: no {pattern}checkpoints/last.pt that is whole; say its path")
    return max(found, key=os.path.getmtime)


def _launched() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _follows() -> bool:
    """Whether this is a process of torchrun's that is not the first."""
    return _launched() and os.environ["RANK"] != "0"


def _join(name: str) -> None:
    """Take part in torchrun's run, if this is one."""
    if _launched() and name != "train":
        raise UserError(f"torchrun starts train.py alone; {name} runs in one process, by python")
    if _launched() and {"-m", "--multirun"} & set(sys.argv):
        raise UserError("-m: a sweep runs in one process, by python; start torchrun once a job")
    if _follows():
        sys.argv += SILENT


def _ending(main: Callable[[], None]) -> Callable[[], None]:
    """A command that leaves Python's last steps out where it is one of torchrun's processes.

    Torch's caches of what is in shards keep gloo's threads alive to the end. One of them that lets
    go of a tensor only then, late by a moment after the last exchange, would abort the process.
    """

    @functools.wraps(main)
    def ended() -> None:
        try:
            main()
        except SystemExit as end:
            if not _launched() or not isinstance(end.code, int):
                raise
            atexit._run_exitfuncs()  # it ends the loader's workers
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)

    return ended


def command(name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make `task` a command with the configuration `configs/<name>.yaml`.

    What the user can mend ends in one line on standard error and exit code 2. A job of a sweep that
    fails counts as nan; the others go on, and the sweep exits with the first failure's code.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        failed: list[int] = []

        def job(cfg: DictConfig) -> Any:
            try:
                return task(cfg)
            except UserError as error:
                failed.append(_say(str(error)))
            except (HydraException, OmegaConfBaseException) as error:
                failed.append(_say(_explain(error, name)))
            except Exception:
                traceback.print_exc()
                failed.append(1)
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                sys.exit(failed[0])
            return float("nan")

        job.__module__ = name  # by which Hydra names the log: check.log, not __main__.log

        def main() -> None:
            sys.exit(_start(name, job) or (failed[0] if failed else 0))

        return _ending(main)

    return decorate


def _start(name: str, job: Callable[[DictConfig], Any]) -> int:
    """Compose the configuration and run the job; the exit code of what ended it early, else 0."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing, we print
    config_name = name
    try:
        config_name = _config_name(name)
        _join(name)
        hydra.main(str(CONFIGS), config_name, version_base="1.3")(job)()
        sys.stdout.flush()
    except UserError as error:
        return _once(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        return _once(_explain(error, config_name))
    except Stopped as stopped:
        return _once(stopped.args[1], 128 + stopped.args[0])
    except KeyboardInterrupt:
        return _once("interrupted", 130)
    except BrokenPipeError:  # `eval.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _once(f"{error.strerror}: {error.filename}; set hydra.run.dir=FOLDER")
    return 0


def _say(message: str, code: int = 2) -> int:
    print(f"error: {message}" if code == 2 else message, file=sys.stderr)
    return code


def _once(message: str, code: int = 2) -> int:
    """What the other processes of a run would say too."""
    return code if _follows() else _say(message, code)
