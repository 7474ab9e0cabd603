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
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from engine import console
from engine.config import automatic, resume, tools  # noqa: F401  # tools registers their schemas
from engine.config.arguments import check_arguments, program, readable
from engine.config.check import check_resolves, check_values
from engine.config.describe import help_text, refuse_unread
from engine.config.explain import explain
from engine.config.schema import CONFIGS
from engine.errors import JobFailed, Stopped, UserError

# Under torchrun only rank 0 writes the run folder's files and the console.
SILENT = ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra.job_logging.root.handlers=[]",
          "~hydra.job_logging.handlers.file"]  # fmt: skip

logging.raiseExceptions = False  # a closed pipe (`| head`) is no error
logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # what it cannot import, we say


def configuration(name: str) -> str:
    """Return the name of the configuration to compose, which depends on the arguments.

    `predict.py model=...` composes a network, `eval.py truth=...` a data set: of a COCO file, or of
    a folder of text files.
    """
    if name == "predict" and any(a.startswith("model=") for a in sys.argv):
        return "pretrained"
    truth = [a.partition("=")[2] for a in sys.argv if name == "eval" and a.startswith("truth=")]
    if truth:
        return "eval_text" if Path(_unquoted(truth[-1])).is_dir() else "eval_truth"
    if name == "train" and {"-h", "--help"} & set(sys.argv):  # no checkpoint is read for it
        return "resume" if any(re.match(r"\+*resume=(?!null$|$)", a) for a in sys.argv) else name
    return _resumed() if name == "train" else name


def _unquoted(value: str) -> str:
    """A text of the command line without the quotes that Hydra's grammar has around it."""
    return re.sub(r"^(['\"])(.*)\1$", r"\2", value)


def _resumed() -> str:
    """Return the configuration of train.py: `resume` for a run that goes on.

    What the command line says of the parts that its checkpoint determines then goes into one key,
    to be compared with it.
    """
    given = [i for i, a in enumerate(sys.argv) if a.lstrip("+").startswith("resume=")]
    if not given:
        return "train"
    at = given[-1]
    path: str | None = _unquoted(sys.argv[at].partition("=")[2])
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


def check_torchrun(name: str) -> None:
    """Refuse what does not work under torchrun; silence all ranks but the first."""
    if _under_torchrun() and name != "train":
        raise UserError(f"torchrun starts {program('train')} only; run {name} in one process")
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


def command(
    name: str, after_sweep: Callable[[], int] = lambda: 0
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Decorator: makes a function of the configuration `configs/<name>.yaml` a command.

    A mistake of the user ends it with one line on standard error and exit code 2. A sweep's job
    that fails raises JobFailed; the others go on, and the sweep exits with the first one's code.

    Args:
        name: of the command and its configuration.
        after_sweep: called after the last job of a sweep; returns the exit code of one that failed.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        def job(cfg: DictConfig) -> Any:
            try:
                check_resolves(cfg)
                check_values(cfg)
                automatic.announce()
                return task(cfg)
            except UserError as error:
                code, message = 2, str(error)
            except (HydraException, OmegaConfBaseException) as error:
                code, message = 2, explain(error, name, sys.argv[1:])
            except Exception:
                code, message = 1, traceback.format_exc().strip()
            _print_error(message, code)
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                sys.exit(code)
            raise JobFailed(code, message.split("\n")[-1])

        job.__module__ = name  # Hydra names the log after it: check.log, not __main__.log

        def main() -> None:
            sys.exit(_run(name, job, after_sweep))

        return _hard_exit_under_torchrun(main)

    return decorate


def _run(name: str, job: Callable[[DictConfig], Any], after_sweep: Callable[[], int]) -> int:
    """Compose the configuration, run the jobs, and return the exit code."""
    console.escape_unencodable()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing; we print
    config_name = name
    try:
        sys.argv[1:] = map(readable, sys.argv[1:])
        if not {"-h", "--help"} & set(sys.argv):
            sys.argv[1:] = automatic.explicit(sys.argv[1:])
        config_name = configuration(name)
        given = check_arguments(name, config_name)
        if given.help and _is_rank_zero():
            console.echo(*help_text(name, config_name, given).splitlines())
        if given.help:
            return 0
        if name in ("eval", "predict"):  # others are started with the line of a run
            refuse_unread(name, config_name, given)
        check_torchrun(name)
        warnings.filterwarnings("ignore", module="hydra")  # what matters of them is refused above
        _replace_sweeper()
        code = _launch(config_name, job, after_sweep)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _rank_zero_error(str(error))
    except Stopped as stopped:
        return _rank_zero_error(stopped.args[1], 128 + stopped.args[0])
    except KeyboardInterrupt:
        return _rank_zero_error("interrupted", 130)
    except BrokenPipeError:  # `eval.py ... | head`
        console.discard()
    except OSError as error:
        if isinstance(error, HydraException) or not error.filename:
            return _rank_zero_error(explain(error, config_name, sys.argv[1:]))
        return _rank_zero_error(f"{error.strerror}: {error.filename}; set hydra.run.dir=FOLDER")
    except Exception as error:  # of composing: a job prints its own
        return _rank_zero_error(explain(error, config_name, sys.argv[1:]))
    return 0


def _replace_sweeper() -> None:
    """Put `engine.config.grid` in the place of Hydra's sweeper, which every configuration has."""
    plugins = Plugins.instance()  # imports Hydra's own anew: ours can be derived from them then
    from engine.config.grid import Grid

    basic = Grid.__mro__[1]
    plugins.class_name_to_class[f"{basic.__module__}.{basic.__name__}"] = Grid


@contextmanager
def _composed_once() -> Iterator[None]:
    """Spare Hydra a composition of which it reads hydra.mode alone, where nothing can set that."""
    ask, setters = Hydra.get_mode, re.compile(r"-|[+~]*(hydra|experiment)")
    if not any(setters.match(argument) for argument in sys.argv[1:]):
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = ask


def _launch(config_name: str, job: Callable[[DictConfig], Any], after: Callable[[], int]) -> int:
    """Let Hydra run the jobs, then call `after`; the exit code of a job that failed, or 0."""
    try:
        with _composed_once():
            hydra.main(str(CONFIGS), config_name, version_base="1.3")(job)()
    except JobFailed as failed:
        return after() or failed.code
    except (UserError, HydraException):  # nothing ran
        raise
    except BaseException:
        after()
        raise
    return after()


def _print_error(message: str, code: int = 2) -> int:
    console.error(f"error: {message}" if code == 2 else message)
    return code


def _rank_zero_error(message: str, code: int = 2) -> int:
    """Print an error that every process of a run has; only rank 0 does."""
    return _print_error(message, code) if _is_rank_zero() else code
