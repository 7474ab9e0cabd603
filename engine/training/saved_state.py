"""Whether the state in a checkpoint fits the run that is to go on from it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from engine.training.optimizer import trial_state
from engine.weights.entries import is_count, is_finite, require, wrong

WORDS = 624  # of the state of a Mersenne twister
SCALER = ("scale", "growth_factor", "backoff_factor", "growth_interval")


def check_optimizer(state: dict[str, Any], optimizer: Optimizer, file: str) -> None:
    """Check an optimizer's saved groups and moments against the parameters.

    Raises:
        UserError: another number of groups or parameters, a setting that is no number of its kind,
            or moments of another shape or kind; `file` names the checkpoint, here and below.
    """
    groups, own = state["param_groups"], optimizer.param_groups
    counts = [[len(group["params"]) for group in gs] for gs in (groups, own)]
    if counts[0] != counts[1]:
        raise wrong(file, "optimizer.param_groups", counts[0], f"groups of {counts[1]} parameters")
    for held, wanted in zip(groups, own, strict=True):
        for key in wanted.keys() - {"params"}:
            if key not in held or not _is_setting(held[key], wanted[key]):
                raise wrong(file, f"optimizer.{key}", held.get(key), "as in this configuration")
    order = [number for group in groups for number in group["params"]]
    if not all(map(is_count, order)) or order != list(range(len(order))):
        raise wrong(file, "optimizer.param_groups", order, "the parameters in order")
    parameters = [p for group in own for p in group["params"]]
    names = _moments(optimizer)
    for number, held in state["state"].items():
        if number >= len(parameters):
            raise wrong(file, "optimizer.state", number, f"at most {len(parameters)} parameters")
        if names is not None and held and held.keys() != names:
            raise wrong(
                file, f"optimizer.state of parameter {number}", list(held), str(sorted(names))
            )
        for key, value in held.items():
            if not _is_moment(value, parameters[number]):
                raise wrong(file, f"optimizer.{key} of parameter {number}", _form(value),
                            f"finite numbers, of {list(parameters[number].shape)}")  # fmt: skip


def _is_setting(held: Any, wanted: Any) -> bool:
    """Whether a group's saved setting is of the kind of the run's own, a rate or a switch."""
    if isinstance(wanted, list | tuple):
        fit = isinstance(held, list | tuple) and len(held) == len(wanted)
        return fit and all(map(_is_setting, held, wanted))
    if isinstance(wanted, bool | None):
        return isinstance(held, bool | None)
    if isinstance(wanted, int | float):
        return is_finite(held) and held >= 0
    return type(held) is type(wanted)


def _moments(optimizer: Optimizer) -> set[str] | None:
    """The names of what torch's optimizers keep of a parameter; None of another's."""
    if not type(optimizer).__module__.startswith("torch.optim"):
        return None
    trial = trial_state(optimizer, optimizer.param_groups[0], nn.Parameter(torch.zeros(1)))
    return None if trial is None else set(trial)


def _is_moment(value: Any, parameter: Tensor) -> bool:
    if not isinstance(value, Tensor):
        return value is None or is_finite(value)
    if value.layout != torch.strided or value.is_meta or not value.is_floating_point():
        return False
    return value.shape in (parameter.shape, ()) and bool(value.isfinite().all())


def _form(value: Any) -> Any:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else value


def check_schedule(state: dict[str, Any], schedule: LambdaLR, file: str) -> None:
    """Check a schedule's saved rates and counts.

    Raises:
        UserError: an entry is missing, of another kind, or none of a schedule's.
    """
    rates = ("base_lrs", "_last_lr")
    require(state, (*rates, "last_epoch", "_step_count", "lr_lambdas"), f"{file}: schedule")
    number = len(schedule.base_lrs)
    for key, value in state.items():
        if key in rates:
            fits = isinstance(value, list) and len(value) == number
            fits = fits and all(is_finite(rate) and rate >= 0 for rate in value)
        elif key == "lr_lambdas":
            fits = value == [None] * number
        elif key in ("last_epoch", "_step_count"):
            fits = is_count(value)
        else:
            fits = isinstance(value, bool)
        if not fits or (key not in schedule.state_dict() and key in vars(schedule)):
            raise wrong(
                file, f"schedule.{key}", value, f"the state of a schedule of {number} rates"
            )


def check_scaler(state: dict[str, Any], file: str) -> None:
    """Check a gradient scaler's saved numbers; those of a run without one are none.

    Raises:
        UserError: one is missing, or not a number above 0.
    """
    if not state:
        return
    require(state, (*SCALER, "_growth_tracker"), f"{file}: scaler")
    for key in SCALER:
        if not is_finite(state[key]) or state[key] <= 0:
            raise wrong(file, f"scaler.{key}", state[key], "a number above 0")
    if not is_count(state["_growth_tracker"]):
        raise wrong(file, "scaler._growth_tracker", state["_growth_tracker"], "a count from 0 on")


def check_random(states: dict[str, Any], file: str) -> None:
    """Check saved random states: numpy would read outside of its own with a wrong position.

    Raises:
        UserError: one is missing, or not what `random_states` returns.
    """
    require(states, ("python", "numpy", "torch", "cuda"), f"{file}: random")
    fits = {"python": _is_python, "numpy": _is_numpy, "torch": _is_torch, "cuda": _is_cuda}
    for key, is_state in fits.items():
        if not is_state(states[key]):
            raise wrong(file, f"random.{key}", states[key], "the state of a random generator")


def _is_python(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    version, words, gauss = value
    return (
        type(version) is int
        and version == 3
        and isinstance(words, list)
        and len(words) == WORDS + 1
        and all(type(word) is int and 0 <= word < 2**32 for word in words)
        and words[-1] <= WORDS
        and (gauss is None or is_finite(gauss))
    )


def _is_numpy(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 5:
        return False
    algorithm, words, position, has_gauss, gauss = value
    return (
        algorithm == "MT19937"
        and isinstance(words, Tensor)
        and words.shape == (WORDS,)
        and words.dtype == torch.int64
        and bool(((words >= 0) & (words < 2**32)).all())
        and is_count(position)
        and position <= WORDS
        and is_count(has_gauss)
        and has_gauss in (0, 1)
        and is_finite(gauss)
    )


def _is_torch(value: Any) -> bool:
    """Whether torch takes it; tried on a generator of our own."""
    if not isinstance(value, Tensor):
        return False
    try:
        torch.Generator().set_state(value.cpu())
    except (RuntimeError, TypeError):
        return False
    return True


def _is_cuda(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    return all(isinstance(s, Tensor) and s.dtype == torch.uint8 and s.ndim == 1 for s in value)
