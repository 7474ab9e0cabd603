"""Composes a command's configuration inside a program, whose own Hydra, if any, is left as it was.

What the program gives stands for a command line, so that it gets the command's checks and messages.
"""

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from engine.cli import check_torchrun, configuration
from engine.config import automatic
from engine.config.arguments import check_arguments, readable
from engine.config.check import check_resolves, check_values
from engine.config.describe import refuse_unread
from engine.config.explain import explain
from engine.config.schema import CONFIGS
from engine.errors import UserError

LOCK = RLock()  # one composition at a time: Hydra's state is the process's


def quoted(text: str) -> str:
    """Return any text as a value in Hydra's grammar."""
    return QuotedString(text, Quote.single).with_quotes()


def compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """Return the checked configuration of a command; its node `hydra` is Hydra's own.

    Args:
        name: train, eval or predict.
        overrides: the command line's, as `key=value`.

    Raises:
        UserError: as the command would say it.
    """
    check_list(overrides)
    if options := [text for text in overrides if text.startswith("-")]:
        raise UserError(f"{options[0]}: expected key=value; options are for `onelook {name}`")
    with LOCK, _hydra_kept(), _command_line(f"onelook {name}", overrides):
        return _compose(name)


def check_list(overrides: Sequence[str]) -> None:
    """Refuse what is no list of texts."""
    if not isinstance(overrides, list | tuple) or not all(isinstance(x, str) for x in overrides):
        raise UserError(f'overrides: got {overrides!r}, expected a list as ["trainer.epochs=5"]')


@contextmanager
def explained(config_name: str, arguments: Sequence[str]) -> Iterator[None]:
    """Make errors of Hydra and OmegaConf in the `with` block a UserError of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, config_name, list(arguments))) from error


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Return the configuration that a command's function takes."""
    task = copy.deepcopy(cfg)
    with read_write(task), open_dict(task):
        del task["hydra"]
    return task


def _compose(name: str) -> DictConfig:
    """The configuration of the command line in `sys.argv`."""
    sys.argv[1:] = automatic.explicit([*map(readable, sys.argv[1:])])
    config_name = configuration(name)
    given = check_arguments(name, config_name)
    if name in ("eval", "predict"):
        refuse_unread(name, config_name, given)
    check_torchrun(name)
    with explained(config_name, sys.argv[1:]):
        with hydra.initialize_config_dir(str(CONFIGS), name, version_base="1.3"):
            cfg = hydra.compose(config_name, sys.argv[1:], return_hydra_config=True)
        if cfg.hydra.mode == RunMode.MULTIRUN:
            raise UserError(f"hydra.mode=MULTIRUN: a sweep is `onelook {name} -m`")
        task = without_hydra(cfg)
        check_resolves(task)
        check_values(task)
    return cfg


@contextmanager
def _hydra_kept() -> Iterator[None]:
    """Leave what Hydra keeps of the program as it was."""
    state, version, job = GlobalHydra.instance(), VersionBase.instance(), JobRuntime.instance()
    before = state.hydra, version.version_base, job.get("name")
    state.clear()
    try:
        yield
    finally:
        GlobalHydra.set_instance(state)
        state.hydra, version.version_base = before[:2]
        job.set("name", before[2])


@contextmanager
def _command_line(program: str, arguments: Sequence[str]) -> Iterator[None]:
    """Let `sys.argv`, which the command's checks read, be this command line."""
    before = sys.argv
    sys.argv = [program, *arguments]
    try:
        yield
    finally:
        sys.argv = before
