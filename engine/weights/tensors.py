"""What a tensor in a file must be to serve as weights: dense, of floats, finite."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engine.errors import UserError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Where programs keep a state dict among other things, the first that is there.
KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
NESTED = 4  # dicts in dicts, at most
LONGEST = 500  # characters of a tensor's name


def state_dict(loaded: Any, path: str) -> dict[str, Tensor]:
    """The tensors by name that a file holds: at its top level, under one of KEYS or the only key.

    Raises:
        UserError: no tensors by name, or under several keys; tensors that are not dense.
    """
    for _ in range(NESTED):
        if (inner := _inner(loaded, path)) is None:
            break
        loaded = inner
    state = {key: value for key, value in loaded.items() if isinstance(value, Tensor)}
    if not state:
        raise UserError(f"{path}: no tensors by name in it (it holds {_shown(loaded)})")
    check_dense(state, path)
    return state


def check_dense(state: Mapping[Any, Tensor], path: str) -> None:
    """Refuse tensors that are not dense or have no proper name.

    Raises:
        UserError: naming the first.
    """
    for key, tensor in state.items():
        if not isinstance(key, str) or len(key) > LONGEST:
            raise UserError(
                f"{path}: a tensor is called {str(key)[:80]!r}; expected names, as in a state dict"
            )
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
            raise UserError(f"{path}: {key} is no dense tensor: save it dense, with its numbers")


def _inner(loaded: Mapping[Any, Any], path: str) -> Mapping[Any, Any] | None:
    """The dict in a file's dict that holds the weights; None if the tensors are right here."""
    dicts = {key: value for key, value in loaded.items() if isinstance(value, Mapping)}
    if known := next((key for key in KEYS if key in dicts), None):
        return dicts[known]
    if any(isinstance(value, Tensor) for value in loaded.values()):
        return None
    holders = [k for k, v in dicts.items() if any(isinstance(t, Tensor) for t in v.values())]
    if len(holders) > 1:
        raise UserError(
            f"{path}: weights under several keys ({_shown(holders)}): save the one to use as a "
            "file of its own"
        )
    return dicts[holders[0]] if holders else None


def _shown(keys: Any) -> str:
    names = [str(key) for key in keys]
    return ", ".join(sorted(names)[:5]) or "nothing"


def check_numbers(state: Mapping[str, Tensor], path: str) -> None:
    """Refuse weights that no network can compute with.

    Raises:
        UserError: a tensor is not of floats, holds NaN or infinity (as float32 too), or is a
            variance below 0.
    """
    for key, tensor in state.items():
        if tensor.dtype not in FLOATS:
            raise UserError(
                f"{path}: {key} is of {str(tensor.dtype).removeprefix('torch.')}, expected floats: "
                "save the weights before they were quantised or converted"
            )
        check_finite(key, tensor, path)


def check_finite(key: str, tensor: Tensor, path: str) -> None:
    """Refuse weights of NaN or infinite numbers, as float32 too, and variances below 0.

    Raises:
        UserError: naming the tensor.
    """
    values = tensor.detach().float()
    if not values.isfinite().all():
        raise UserError(
            f"{path}: {key} holds NaN or infinite numbers: the run that wrote it diverged, or "
            "the file is damaged; take an earlier one"
        )
    if key.endswith("running_var") and (values < 0).any():
        raise UserError(
            f"{path}: {key} holds variances below 0: the file is damaged, or of another network"
        )
