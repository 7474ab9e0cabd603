"""Checkpoints: plain tensors, numbers, strings, lists and dicts, written atomically."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.distributed.fsdp import local_shard, weights_like
from engine.distributed.processes import rank_zero_only
from engine.errors import UserError
from engine.regular_file import open_regular
from engine.weights import entries
from engine.weights.checkpoint_path import require_checkpoint
from engine.weights.migrate import FORMAT, migrate
from engine.weights.tensors import check_finite
from engine.weights.unpickle import foreign_start, load_plain, what_it_is
from engine.whole_file import NotWritten, whole_file

NEEDED = {"format", "config", "classes", "model", "epoch"}
WEIGHTS = "; weights alone are read by train.py model=... backbone.weights=FILE"


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
        UserError: what `read` refuses, a newer format, or a damaged file.
    """
    state, file = read(path, device), f"checkpoint {path}"
    _check_sums(path, file)
    return upgrade(state, file)


def _check_sums(path: str, file: str) -> None:
    """Refuse a file whose bytes changed after it was written: torch reads them as other weights."""
    if not zipfile.is_zipfile(path):
        return  # torch's format of before 1.6 has no sums
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, RuntimeError, zlib.error) as error:
        changed = f"its archive ({str(error)[:80]})"
    if changed is not None:
        raise UserError(
            f"{file}: a damaged checkpoint: {changed} is not as it was written (its checksum is "
            "another); copy it anew, or take another one of this run"
        )


def read(path: str, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint as it was written; no code in the file is ever run.

    Raises:
        UserError: no such file, not a checkpoint (the message says what it is), not written by
            train.py, or it holds pickled objects.
    """
    require_checkpoint(path)
    try:
        state = load_plain(path, device)
    except Exception as error:  # torch's readers have no fixed set of errors
        raise UserError(
            f"checkpoint {path}: it is {_what(path, error)}; expected a file that train.py wrote "
            f"(nothing else is ever unpickled){WEIGHTS}"
        ) from error
    if not isinstance(state, dict):
        raise UserError(
            f"checkpoint {path}: not written by train.py (it holds {type(state).__name__})"
        )
    return state


def _what(path: str, error: Exception) -> str:
    try:
        with open_regular(path) as file:
            start = foreign_start(file)
            return what_it_is(file.read() if start is None else start, str(error))
    except OSError as unreadable:
        return f"not readable ({unreadable.strerror})"


def upgrade(state: Mapping[Any, Any], file: str) -> dict[str, Any]:
    """The state read from a checkpoint, its entries checked and migrated to this version's format.

    Raises:
        UserError: not written by train.py, of a newer format, or damaged; `file` names it there.
    """
    if len(NEEDED - state.keys()) == 1:
        entries.require(state, NEEDED, file)
    if not state.keys() >= NEEDED:
        raise UserError(f"{file}: not written by train.py{_described(state)}{WEIGHTS}")
    number = state["format"]
    if type(number) is not int or number < 1:
        raise entries.wrong(file, "format", number, f"a number from 1 to {FORMAT}")
    if number > FORMAT:
        raise UserError(f"{file}: format {str(number)[:9]}, this version reads {FORMAT}: update it")
    entries.check_entries(state, file)
    if number < FORMAT:
        state = _migrated(dict(state), file)
        entries.check_entries(state, file)
    return dict(state)


def _described(state: Mapping[Any, Any]) -> str:
    """What a dict of another program holds, for a message."""
    names = [str(key)[:40] for key in state]
    held = f" (it holds {sorted(names)[:5]})"
    if "pytorch-lightning_version" in state:
        return f": it is a checkpoint of Lightning{held}"
    if state and all(isinstance(value, torch.Tensor) for value in state.values()):
        return f": it is a state dict of weights alone{held}"
    return held


def _migrated(state: dict[str, Any], file: str) -> dict[str, Any]:
    try:
        return migrate(state)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__}: {str(error)[:100]}"
        raise UserError(
            f"{file}: a damaged checkpoint: not as format {state['format']} was ({reason})"
        ) from error


def load_weights(network: torch.nn.Module, weights: Mapping[str, Tensor], path: str) -> None:
    """Load a checkpoint's weights into the network that its configuration built.

    Raises:
        UserError: names, shapes or types differ, or there are NaN or infinite numbers.
    """
    wanted, file = network.state_dict(), f"checkpoint {path}"
    for key in (*wanted, *weights):
        if difference := _difference(wanted.get(key), weights.get(key)):
            raise UserError(f"{file}: its weights are of another network: {key}: {difference}")
    for key, tensor in weights.items():
        # a network may keep a mask of -inf
        if tensor.is_floating_point() and local_shard(wanted[key]).isfinite().all():
            check_finite(key, tensor, file)
    network.load_state_dict(weights_like(dict(weights), network))


def _difference(wanted: Tensor | None, held: Tensor | None) -> str:
    """What keeps a tensor of a file from being a network's; "" if nothing does."""
    if wanted is None or held is None:
        return "this network has none" if wanted is None else "missing in the file"
    if wanted.shape != held.shape:
        return f"{list(held.shape)} in the file, {list(wanted.shape)} here"
    alike = all(is_a(wanted) == is_a(held) for is_a in (torch.is_floating_point, torch.is_complex))
    return "" if alike else f"{held.dtype} in the file, {wanted.dtype} here"
