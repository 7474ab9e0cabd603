"""What a search varies: Hydra's syntax for sweeps as Optuna's distributions."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
    Sweep,
)
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from engine.errors import UserError


class Space(NamedTuple):
    """The overrides of a search: those of one value, and what each other key is drawn from."""

    fixed: list[str]
    varied: dict[str, BaseDistribution]

    def ends(self, key: str) -> list[str]:
        """Every value that a key can have, or the lowest and the highest."""
        return [f"{key}={value}" for value in _ends(self.varied[key])]

    def settings(self, trial: Trial) -> list[str]:
        """The overrides of a trial, drawn by the study's sampler where it has none yet."""
        return [f"{key}={_suggest(trial, key, of)}" for key, of in self.varied.items()]

    def grid(self) -> list[dict[str, Any]]:
        """Every combination of values, as Optuna's parameters.

        Raises:
            UserError: a key has no list of values.
        """
        for key, of in self.varied.items():
            if isinstance(of, FloatDistribution):
                raise UserError(f"sampler=grid: {key} has an interval; give a list, {key}=A,B,C")
        values = [_values(of) for of in self.varied.values()]
        return [dict(zip(self.varied, each, strict=True)) for each in product(*values)]


def read(arguments: Sequence[str], loader: ConfigLoader) -> Space:
    """Return the space of the command line's overrides.

    Args:
        arguments: the overrides.
        loader: knows the options of groups, for KEY='glob(*)'.

    Raises:
        UserError: nothing varies, or not in a way that a search knows.
    """
    overrides = OverridesParser.create(loader).parse_overrides([*arguments])
    space = Space([], {})
    for override in overrides:
        if not override.is_sweep_override():
            space.fixed.append(str(override.input_line))
            continue
        space.varied[override.get_key_element()] = _distribution(override)
    if not space.varied:
        raise UserError(
            "hydra/sweeper=study: no key has several values; expected KEY=A,B, "
            "KEY='interval(LOW,HIGH)' or KEY='tag(log,interval(LOW,HIGH))'"
        )
    return space


def _distribution(override: Override) -> BaseDistribution:
    sweep: Any = override.value()
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    if unknown := sorted(tags - {"log"}):
        raise UserError(f"{override.input_line}: tag {unknown[0]}; a search knows tag(log, ...)")
    try:
        if isinstance(sweep, IntervalSweep):
            kind = IntDistribution if isinstance(sweep.start, int) else FloatDistribution
            return kind(sweep.start, sweep.end, log="log" in tags)  # type: ignore[arg-type]
        values = [*dict.fromkeys(override.sweep_string_iterator())]
        if isinstance(sweep, RangeSweep) and isinstance(sweep.step, int):
            numbers = [int(value) for value in values]
            return IntDistribution(min(numbers), max(numbers), step=abs(sweep.step))
        is_shuffled = isinstance(sweep, ChoiceSweep | RangeSweep) and sweep.shuffle
        # in one order, so that a search that goes on finds what it had
        return CategoricalDistribution(sorted(values) if is_shuffled else values)
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from None


def _values(of: BaseDistribution) -> list[Any]:
    if isinstance(of, CategoricalDistribution):
        return [*of.choices]
    assert isinstance(of, IntDistribution)
    return [*range(of.low, of.high + 1, of.step)]


def _ends(of: BaseDistribution) -> Iterator[Any]:
    if isinstance(of, CategoricalDistribution):
        yield from of.choices
    elif isinstance(of, IntDistribution | FloatDistribution):
        yield from (of.low, of.high)


def _suggest(trial: Trial, key: str, of: BaseDistribution) -> Any:
    """The value of a key in a trial: the one that it has, or else one that is drawn now."""
    if isinstance(of, CategoricalDistribution):
        return trial.suggest_categorical(key, of.choices)
    if isinstance(of, IntDistribution):
        return trial.suggest_int(key, of.low, of.high, step=of.step, log=of.log)
    assert isinstance(of, FloatDistribution)
    return trial.suggest_float(key, of.low, of.high, log=of.log)
