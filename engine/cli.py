"""Runs a command: compose its configuration, check it, run, and print errors in one line.

No import of torch here: mistakes in the configuration are found before it loads.
"""

import atexit
import functools
import logging
import os
import re
import sys
import traceback
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

from engine.config import resume
from engine.config.check import check_values
from engine.config.renamed import new_key, new_option
from engine.config.schema import CONFIGS
from engine.errors import Stopped, UserError, did_you_mean

# Under torchrun only rank 0 writes the run folder's files and the console.
SILENT = ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra.job_logging.root.handlers=[]",
          "~hydra.job_logging.handlers.file"]  # fmt: skip

logging.raiseExceptions = False  # a closed pipe (`| head`) is no error


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
    """Return every key of the configuration composed with the groups of the command line."""
    selectors = (*_groups(), "hydra.searchpath")
    choices = [a for a in sys.argv[1:] if a.split("=")[0] in selectors and "," not in a]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            return list(_keys(hydra.compose(config_name, overrides=choices)))
        except HydraException:  # one of the choices is the mistake
            return list(_keys(hydra.compose(config_name)))


def _explain(error: Exception, config_name: str) -> str:
    """Return Hydra's error in one line: what was got, what is expected."""
    key = re.search(r"Could not override '([^']+)'", str(error))
    if isinstance(error, MissingConfigException) and (missing := error.missing_cfg_file):
        group, _, option = missing.rpartition("/") if error.options else missing.partition("/")
        options = error.options or _options(group)  # in folders Hydra knows of none
        if now := new_option(group, option):
            return f"{group}={option}: this is called {group}={now} now"
        hint = did_you_mean(option, options)
        return f"{group}={option}: no such {group}{hint or ';'} there are: {', '.join(options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read; quote odd characters: \"key='a b=c'\""
    group = key[1].split(".")[0] if key else ""
    in_checkpoint = {*_groups(), "image_size", "preprocessing"}
    if key and config_name in ("eval", "predict", "resume") and group in in_checkpoint:
        return f"{key[1]}: the checkpoint determines {group}; choose it when training starts"
    if key:
        known = _known_keys(config_name)
        if now := new_key(key[1], known, config_name):
            return f"{key[1]}: this key is called {now} now"
        hint = did_you_mean(key[1], known)
        return f"{key[1]}: no such key{hint} (`--cfg job` lists them all)"
    lines = [str(error).replace("Error merging override ", "").split("\n")[0]]
    if error.__cause__ is not None:
        lines.append(str(error.__cause__).split("\n")[0])
    return ": ".join(line for line in lines if line)


def _config_name(name: str) -> str:
    """Return the name of the configuration to compose, which depends on the arguments.

    `predict.py model=...` composes a network, `eval.py truth=...` a data set.
    """
    if name == "predict" and any(a.startswith("model=") for a in sys.argv):
        return "pretrained"
    if name == "eval" and any(a.startswith("truth=") for a in sys.argv):
        return "eval_truth"
    return _resumed() if name == "train" else name


def _resumed() -> str:
    """Return the configuration of train.py: `resume` for a run that goes on.

    What the command line says of the parts that its checkpoint determines then goes into one key,
    to be compared with it.
    """
    given = [i for i, a in enumerate(sys.argv) if a.lstrip("+").startswith("resume=")]
    if not given:
        return "train"
    at = given[-1]
    path: str | None = sys.argv[at].partition("=")[2]
    arguments = [a for i, a in enumerate(sys.argv[1:], 1) if i not in given]
    if path == "auto":
        if any(re.fullmatch(r"\+*overwrite=(true|True|1)", a) for a in arguments):
            raise UserError(
                "resume=auto overwrite=true: one goes on, the other starts anew; choose"
            )
        path = resume.find(resume.run_dir(arguments))
    if path in (None, "null", ""):
        sys.argv[1:] = arguments
        return "train"
    checkpoint = Path(path).resolve()
    folder = []
    if checkpoint.is_file():
        if checkpoint.parent.name == "checkpoints":
            # before the user's own, if any: the last one wins
            folder = [f"hydra.run.dir='{checkpoint.parent.parent}'"]
        if not {"-m", "--multirun"} & set(arguments):
            arguments, unchanged = resume.split(arguments)
            folder.append(f"unchanged={resume.quoted(unchanged)}")
    sys.argv[1:] = [f"resume='{path}'", *folder, *arguments]
    return "resume"


def _under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _is_rank_zero() -> bool:
    """Return whether this process is the only one, or torchrun's first."""
    return not _under_torchrun() or os.environ["RANK"] == "0"


def _check_torchrun(name: str) -> None:
    """Refuse what does not work under torchrun; silence all ranks but the first."""
    if _under_torchrun() and name != "train":
        raise UserError(f"torchrun starts train.py only; run {name} in one process, with python")
    if _under_torchrun() and {"-m", "--multirun"} & set(sys.argv):
        raise UserError("-m: a sweep runs in one process, with python; start torchrun once a job")
    if not _is_rank_zero():
        sys.argv += SILENT


def _hard_exit_under_torchrun(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a command so that under torchrun the process ends without Python's teardown.

    Torch's caches of sharded tensors keep gloo's threads alive to the end. A thread that frees a
    tensor during the teardown would abort the process.
    """

    @functools.wraps(main)
    def wrapped() -> None:
        try:
            main()
        except SystemExit as end:
            if not _under_torchrun() or not isinstance(end.code, int):
                raise
            atexit._run_exitfuncs()  # it ends the loader's workers
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)

    return wrapped


def command(name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Decorator: makes a function of the configuration `configs/<name>.yaml` a command.

    A mistake of the user ends it with one line on standard error and exit code 2. A job of a sweep
    that fails returns nan; the others go on, and the sweep exits with the first failure's code.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        exit_codes: list[int] = []  # of failed jobs

        def job(cfg: DictConfig) -> Any:
            try:
                check_values(cfg)
                return task(cfg)
            except UserError as error:
                exit_codes.append(_print_error(str(error)))
            except (HydraException, OmegaConfBaseException) as error:
                exit_codes.append(_print_error(_explain(error, name)))
            except Exception:
                traceback.print_exc()
                exit_codes.append(1)
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                sys.exit(exit_codes[0])
            return float("nan")

        job.__module__ = name  # Hydra names the log after it: check.log, not __main__.log

        def main() -> None:
            sys.exit(_run(name, job) or (exit_codes[0] if exit_codes else 0))

        return _hard_exit_under_torchrun(main)

    return decorate


def _run(name: str, job: Callable[[DictConfig], Any]) -> int:
    """Compose the configuration, run the job, and return the exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing; we print
    config_name = name
    try:
        config_name = _config_name(name)
        _check_torchrun(name)
        hydra.main(str(CONFIGS), config_name, version_base="1.3")(job)()
        sys.stdout.flush()
    except UserError as error:
        return _rank_zero_error(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        return _rank_zero_error(_explain(error, config_name))
    except Stopped as stopped:
        return _rank_zero_error(stopped.args[1], 128 + stopped.args[0])
    except KeyboardInterrupt:
        return _rank_zero_error("interrupted", 130)
    except BrokenPipeError:  # `eval.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _rank_zero_error(f"{error.strerror}: {error.filename}; set hydra.run.dir=FOLDER")
    return 0


def _print_error(message: str, code: int = 2) -> int:
    print(f"error: {message}" if code == 2 else message, file=sys.stderr)
    return code


def _rank_zero_error(message: str, code: int = 2) -> int:
    """Print an error that every process of a run has; only rank 0 does."""
    return _print_error(message, code) if _is_rank_zero() else code
