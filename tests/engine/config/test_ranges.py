import copy
import functools
import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import hydra
import hydra.utils
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.builders import parts
from engine.builders.instantiate import check, hints, part
from engine.config import schema, tools
from engine.config.check import check_values
from engine.config.inherit import inherit
from engine.config.ranges import Count, Length, Range, Share, check_value, fits, words
from engine.errors import UserError

# Every constructor that a YAML names, and torch's optimizers, which a user may.
NAMED = sorted(
    {
        name
        for path in schema.CONFIGS.rglob("*.yaml")
        if "hydra" not in path.parts
        for name in re.findall(r"_target_: *([a-z][\w.]+\.\w+)", path.read_text(encoding="utf-8"))
    }
)
TORCH = sorted(
    f"torch.optim.{name}"
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and name not in ("Optimizer", "LBFGS")  # it needs a closure
)
SCHEMAS = [
    kind
    for kind in (vars(schema) | vars(tools)).values()
    if is_dataclass(kind) and kind.__module__ in (schema.__name__, tools.__name__)
]
# Lists of the backbone's own numbers, and what the engine passes besides.
INJECTED = {name for given in parts.INJECTED_ARGUMENTS.values() for name in given}
ANYTHING = {"num_classes"}  # injected too, yet the user's data decides it


def compose(*overrides, name="train"):
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return hydra.compose(name, overrides=list(overrides))


def parameters(target):
    known = inspect.signature(target).parameters
    return {k: p for k, p in known.items() if k not in INJECTED - ANYTHING}


def unbounded(hint):
    """The numbers in an annotation that no range bounds."""
    if get_origin(hint) is Annotated and any(isinstance(m, Range) for m in get_args(hint)[1:]):
        return []
    if hint in (int, float):
        return [hint]
    return [number for inner in get_args(hint) for number in unbounded(inner)]


def lacking(target):
    """Parameters of a constructor with a number that has no range."""
    known = hints(target)
    return [
        name
        for name, parameter in parameters(target).items()
        if unbounded(known.get(name, Any))
        or (type(parameter.default) in (int, float) and "Range" not in str(known.get(name)))
    ]


def right(hint):
    """Values that an annotation must take: the closed ends of its ranges, and one in between."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [m for m in inner[1:] if isinstance(m, Range)]
        lengths = [m for m in inner[1:] if isinstance(m, Length)]
        if lengths:
            item = right(get_args(inner[0])[0])[0]
            return [[item] * lengths[0].least, [item] * lengths[0].most]
        if not bounds:
            return right(inner[0])
        low, high, brackets = bounds[0].least, bounds[0].most, bounds[0].ends
        ends = [low] * (brackets[0] == "[") + [high] * (brackets[1] == "]")
        return [*ends, (low + high) // 2 if inner[0] is int else (low + high) / 2]
    if origin is tuple and Ellipsis not in inner:
        return [[right(item)[0] for item in inner]]
    if origin in (list, tuple, Sequence):
        return [right(inner[0])[:1]]
    options = [value for item in inner for value in right(item)]
    return options or ([None] if hint is type(None) else [])


def wrong(hint):
    """Values that it must refuse: just outside each end, not finite, huge, of a wrong length."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        for bound in inner[1:]:
            if isinstance(bound, Range):
                yield from outside(bound, inner[0])
            if isinstance(bound, Length):
                item = right(get_args(inner[0])[0])[0]
                yield from ([item] * n for n in (bound.least - 1, bound.most + 1) if n >= 0)
        yield from wrong(inner[0])
    elif origin is tuple and Ellipsis not in inner:
        good = right(hint)[0]
        yield from (good[:-1], [*good, good[-1]], [])
        for place, item in enumerate(inner):
            yield from ([*good[:place], bad, *good[place + 1 :]] for bad in wrong(item))
    elif origin in (list, tuple, Sequence):
        yield from ([bad] for bad in wrong(inner[0]))
    else:
        for item in inner:
            yield from wrong(item)


def outside(bound, kind):
    step = (lambda x, to: x + (1 if to > 0 else -1)) if kind is int else math.nextafter
    yield bound.least if bound.ends[0] == "(" else step(bound.least, -math.inf)
    yield bound.most if bound.ends[1] == ")" else step(bound.most, math.inf)
    yield from (math.nan, math.inf, -math.inf, 1e308, -1e308, 10**400, "1", True)


def has_numbers(hint):
    return "Range" in str(hint)


def numbers(target):
    """Parameters of a constructor with a range."""
    return [key for key in parameters(target) if has_numbers(hints(target).get(key))]


def test_there_is_something_to_look_at():
    assert len(NAMED) > 70 and "torch.optim.AdamW" in TORCH and len(SCHEMAS) >= 10
    assert sum(len(numbers(hydra.utils.get_object(name))) for name in NAMED) > 200


@pytest.mark.parametrize("name", [*NAMED, *TORCH])
def test_every_number_of_every_constructor_has_a_range(name):
    assert lacking(hydra.utils.get_object(name)) == []


class Unbounded:
    def __init__(
        self,
        *,
        a: float,
        b: Sequence[float] = (),
        c: int | None = None,
        d: Any = 0.5,
        e: tuple[Share, float] = (0, 1),
        f: Share = 0,
        g: bool = True,
        h: str = "",
        i: Sequence[Sequence[Count]] = (),
        j=3,
        k: dict[str, int] | None = None,
    ) -> None:
        pass  # fmt: skip


def test_a_number_without_a_range_is_seen():
    assert lacking(Unbounded) == ["a", "b", "c", "d", "e", "j", "k"]


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.__name__)
def test_every_number_of_the_schema_has_a_range(kind):
    known = get_type_hints(kind, include_extras=True)
    assert [name for name, hint in known.items() if unbounded(hint)] == []


@pytest.mark.parametrize("name", [*NAMED, *TORCH])
def test_values_outside_a_range_are_refused_by_their_key(name):
    target = hydra.utils.get_object(name)
    for key in set(numbers(target)) - INJECTED:
        for bad in wrong(hints(target)[key]):
            node = OmegaConf.create({"_target_": name, key: bad})
            with pytest.raises(UserError) as caught:
                check(node, "part")
            assert str(caught.value).startswith(f"part.{key}={bad}: expected "), bad
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*NAMED, *TORCH])
def test_the_ends_of_a_range_and_the_defaults_are_accepted(name):
    target = hydra.utils.get_object(name)
    for key in numbers(target):
        hint, default = hints(target)[key], parameters(target)[key].default
        for good in [*right(hint), *([] if default is inspect.Parameter.empty else [default])]:
            check_value(good, hint, key)


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.__name__)
def test_values_outside_the_schemas_ranges_are_refused_by_their_key(kind):
    known = get_type_hints(kind, include_extras=True)
    for key in [key for key in vars(kind)["__annotations__"] if has_numbers(known[key])]:
        cfg = OmegaConf.structured(kind)
        for good in right(known[key]):
            cfg[key] = good
            check_values(cfg)
        for bad in wrong(known[key]):
            if "'1'" in repr(bad) or "True" in repr(bad) or len(str(bad)) > 400:
                continue  # OmegaConf reads '1' and true as numbers, and fails at 10 ** 400 itself
            with pytest.raises((UserError, OmegaConfBaseException), match=key):
                cfg[key] = bad
                check_values(cfg)


NONSENSE = [
    "loss.weight=-1", "optimizer.lr=inf", "optimizer.lr=-1", "optimizer.lr=nan",
    "optimizer.weight_decay=-1", "optimizer.betas=[0.9]", "optimizer.betas=[0.9,0.99,0.999]",
    "optimizer.betas=[0.9,1]", "optimizer.betas=0.9", "schedule.final=nan", "schedule.warmup=2",
    "preprocessing.std=[0,0,0]", "preprocessing.mean=[nan,0,0]", "preprocessing.mean=[0.5]",
    "preprocessing.std=[1,1,1,1]", "head.prior=nan", "head.prior=0", "head.prior=1",
    "head.postprocess.max_detections=-5", "head.postprocess.score=nan", "head.postprocess=5",
    "head.postprocess.pre_nms=0", "head.levels=1000000", "head.levels=0", "head.scales=[]",
    "head.scales=[nan]", "head.scales=[-1]", "head.ratios=[0]", "head.extra_channels=1000000",
    "head.coder.variances=[0.1]", "head.coder.variances=[0.1,0]", "head.positive=1.5",
    "augment.hue=nan", "augment.rotate=inf", "augment.scale=[1]", "augment.scale=[1,2,3]",
    "augment.scale=[1,inf]", "augment.contrast=-1", "augment.zoom_most=1e308", "clip.max=inf",
    "clip.max=0", "clip.max=nan", "loss.gamma=-1", "loss.alpha=2", "loss.class_weights=[nan]",
    "loss.box=5", "loss.box.beta=-1", "metric.iou=0", "metric.iou=nan", "dataset.seed=4294967296",
    "dataset.size=1000000", "dataset.max_objects=1000000", "seed=4294967296", "seed=-1",
    "image_size=1000000", "image_size=[64,1000000]", "loader.workers=100000", "loader.workers=-1",
    "loader.batch_size=0", "loader.batch_size=1000000", "loader.prefetch=1000000",
    "loader.sizes=[]", "loader.sizes=[64,1000000]", "trainer.ema=nan", "trainer.ema=1",
    "trainer.minutes=inf", "trainer.minutes=0", "trainer.l1=-1", "trainer.l2=nan",
    "trainer.epochs=0", "trainer.accumulate=-1", "finetune.decay=nan", "finetune.last=-1",
]  # fmt: skip


@functools.cache
def whole(*choices):
    return compose("metric=voc_map", "dataset=shapes", "loss/box=smooth_l1", *choices)


@pytest.mark.parametrize("override", NONSENSE)
def test_nonsense_is_refused_in_a_line_that_names_the_key(override):
    key = override.partition("=")[0]
    more = ["optimizer=adamw"] if "betas" in key else ["clip=value"] if "clip" in key else []
    cfg = copy.deepcopy(whole(*more))
    OmegaConf.update(cfg, key, OverridesParser.create().parse_override(override).value())
    with pytest.raises(UserError) as caught:
        parts.check_all(cfg)
    assert str(caught.value).startswith(f"{key}=") and ": expected " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "override"),
    [("predict", "show=nan"), ("eval", "draw=-1"), ("lr_find", "most=inf"), ("bench", "side=0"),
     ("summary", "num_classes=1000000"), ("check", "samples=-1"), ("pretrained", "show=2")],
)  # fmt: skip
def test_the_other_commands_keys_have_ranges(name, override):
    with pytest.raises(UserError, match=f"^{override.partition('=')[0]}="):
        check_values(compose(override, name=name))


@pytest.mark.parametrize("override", ["loader.workers=100000", "trainer.ema=nan"])
def test_what_changes_a_checkpoint_has_ranges(override):
    saved = schema.plain(compose())
    with pytest.raises(UserError, match=f"^{override.partition('=')[0]}="):
        inherit(saved, compose(f"+{override}", name="eval"))


def test_more_classes_than_a_detector_can_hold_are_refused():
    given = {"channels": [8, 8], "strides": [8, 16], "activation": "sigmoid"}
    with pytest.raises(UserError, match="^head.num_classes=10000: expected a whole number from 1"):
        part(compose().head, "head", num_classes=10_000, **given)


def test_what_the_engine_sets_is_not_for_the_user():
    with pytest.raises(UserError, match=r"^head\.channels: the engine sets it"):
        parts.check_all(compose("+head.channels=[1]"))


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (Share, "a number from 0 to 1"),
        (Share | None, "a number from 0 to 1, or null"),
        (Count, "a whole number from 1 to 1,000,000"),
        (Annotated[float, Range(0, 1, "[)")], "a number from 0, below 1"),
        (Annotated[float, Range(0, 1, "(]")], "a number above 0, at most 1"),
        (tuple[Share, Share], "a list of 2, each a number from 0 to 1"),
        (tuple[Share, Count], "a list of 2, a number from 0 to 1, then a whole number from 1 to "
                              "1,000,000"),
        (Annotated[Sequence[Share], Length(1, 3)], "a list of 1 to 3, each a number from 0 to 1"),
        (Sequence[str], "a list, each text"),
        (str | bool, "text, or true or false"),
    ],
)  # fmt: skip
def test_a_range_in_words(hint, text):
    assert words(hint) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_a_float_without_a_range_is_finite(value):
    assert not fits(value, float) and not fits([value], Sequence[float]) and fits(1e308, float)
