"""Checkpoints: plain tensors, numbers, strings, lists and dicts, written atomically."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from engine.distributed.collectives import rank_zero_only
from engine.distributed.fsdp import weights_like
from engine.errors import UserError
from engine.weights.migrate import FORMAT, migrate
from engine.whole_file import NotWritten, whole_file

NEEDED = {"format", "config", "classes", "model", "epoch"}


@rank_zero_only
def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the old file stays until the new one is complete and on the disk.

    Raises:
        NotWritten: the file cannot be written; the old file is unchanged.
    """
    with whole_file(path, "wb", durable=True) as file:
        try:
            torch.save({"format": FORMAT, **state}, file)
        except RuntimeError as error:  # torch's writer, for a full disk
            raise NotWritten(path, _disk_error(error)) from error


def _disk_error(error: RuntimeError) -> str:
    """The reason that the file system gave, where torch's writer kept it."""
    cause = error.__context__
    return cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error)


def load(path: str, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint onto `device`, in the format of this version.

    Raises:
        UserError: what `read` refuses, or a newer format.
    """
    return upgrade(read(path, device), path)


def read(path: str, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint as it was written; no code in the file is ever run.

    Raises:
        UserError: no such file, not a checkpoint, not written by train.py, or it holds pickled
            objects (the message names the first).
    """
    if not Path(path).is_file():
        got = "a folder" if Path(path).is_dir() else "no such file"
        where = "RUN/checkpoints/last.pt, and after their first evaluation in best.pt beside it"
        raise UserError(f"checkpoint {path}: {got}; runs keep theirs in {where}")
    try:
        with warnings.catch_warnings():  # torch warns of pickle protocols before it refuses them
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch's readers have no fixed set of errors
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it holds a pickled object, {named[1]}" if named else "not one, or a broken one"
        raise UserError(
            f"checkpoint {path}: {what}; expected a file that train.py wrote (plain tensors, "
            "numbers and strings; nothing else is ever unpickled)"
        ) from error
    if not isinstance(state, dict):
        raise UserError(
            f"checkpoint {path}: not written by train.py (it holds {type(state).__name__})"
        )
    return state


def upgrade(state: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The state read from a checkpoint, migrated to the format of this version.

    Raises:
        UserError: not written by train.py, or of a newer format.
    """
    if not state.keys() >= NEEDED:
        raise UserError(
            f"checkpoint {path}: not written by train.py (it holds {sorted(map(str, state))[:5]})"
        )
    if state["format"] > FORMAT:
        raise UserError(
            f"checkpoint {path}: format {state['format']}, this version reads {FORMAT}: update it"
        )
    return migrate(dict(state))


def load_weights(network: torch.nn.Module, weights: dict[str, Any], path: str) -> None:
    """Load a checkpoint's weights into the network that its configuration built.

    Raises:
        UserError: keys or shapes differ.
    """
    try:
        network.load_state_dict(weights_like(weights, network))
    except RuntimeError as error:
        first = str(error).split("\n")[1].strip()[:200]
        raise UserError(
            f"checkpoint {path}: its weights are of another network: {first}"
        ) from error
