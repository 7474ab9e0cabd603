"""Hydra's syntax for sweeps as Optuna's distributions."""

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path

from engine.errors import UserError
from engine.sweep import name
from engine.sweep.space import read

LOADER = ConfigLoaderImpl(create_automatic_config_search_path(None, None, "pkg://engine"))


@pytest.mark.parametrize(
    "text, expected, ends",
    [
        ("a=x,y", "CategoricalDistribution(choices=('x', 'y'))", ["x", "y"]),
        ("a=0.1,[1,2],'b c'", None, ["0.1", "[1,2]", "'b c'"]),
        ("a=interval(1,5)", "FloatDistribution(high=5.0, log=False, low=1.0, step=None)", [1, 5]),
        ("a=tag(log,interval(1e-4,0.1))",
         "FloatDistribution(high=0.1, log=True, low=0.0001, step=None)", [1e-4, 0.1]),
        ("a=int(interval(1,5))", "IntDistribution(high=5, log=False, low=1, step=1)", [1, 5]),
        ("a=range(1,10,3)", "IntDistribution(high=7, log=False, low=1, step=3)", [1, 7]),
        ("a=range(0,1,0.5)", None, ["0.0", "0.5"]),
        ("a=shuffle(range(3,0,-1))", "IntDistribution(high=3, log=False, low=1, step=1)", [1, 3]),
        ("+a@b=choice(x,y)", None, ["x", "y"]),
    ],
)  # fmt: skip
def test_each_sweep_of_hydra_is_a_distribution(text, expected, ends):
    space = read(["c=1", text], LOADER)
    (key,) = space.varied
    assert space.fixed == ["c=1"] and key == text.split("=")[0]
    assert expected is None or repr(space.varied[key]) == expected
    assert space.ends(key) == [f"{key}={end}" for end in ends] or space.ends(key) == [
        f"{key}={float(end)}" for end in ends]  # fmt: skip


@pytest.mark.parametrize(
    "text, message",
    [("a=1", "no key has several values"), ("a=interval(2,1)", "low <= high"),
     ("a=tag(lg,interval(1,2))", "tag lg"), ("a=tag(log,interval(0,2))", "low > 0")],
)  # fmt: skip
def test_what_no_search_can_draw_from_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        read([text], LOADER)


def test_a_grid_is_every_combination_in_the_order_given():
    space = read(["a=x,y", "b=range(1,4)"], LOADER)
    assert space.grid() == [{"a": a, "b": b} for a in "xy" for b in (1, 2, 3)]
    with pytest.raises(UserError, match="b has an interval; give a list"):
        read(["a=x,y", "b=interval(1,2)"], LOADER).grid()


def test_the_same_overrides_have_the_same_name_in_any_order():
    assert name(["a=1", "b=2"], []) == name(["b=2", "a=1"], []) != name(["a=1", "b=3"], [])
    assert name(["a=1"], ["metric", "size"]) != name(["a=1"], ["metric", "seconds"])
