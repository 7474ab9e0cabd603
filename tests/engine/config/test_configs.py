from functools import cache

import hydra
import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.builders import parts
from engine.builders.instantiate import check, part
from engine.config import keys, schema
from engine.config.inherit import inherit
from engine.errors import UserError

CONFIGS = schema.CONFIGS
GROUPS = sorted(p.name for p in CONFIGS.iterdir() if p.is_dir() and p.name != "hydra")
BOXES = sorted(path.stem for path in (CONFIGS / "loss" / "box").glob("*.yaml"))
BASES = sorted(CONFIGS.rglob("_base/*.yaml"))
# Every YAML of every group, in subfolders too, but for what others include.
OPTIONS = [
    (group, path.relative_to(CONFIGS / group).with_suffix("").as_posix())
    for group in GROUPS
    for path in sorted((CONFIGS / group).rglob("*.yaml"))
    if path.parent != CONFIGS / "loss" / "box"  # a group of its own, inside another
    and path not in BASES
]
PARTS = [(group, option) for group, option in OPTIONS if group in parts.INJECTED_ARGUMENTS]
PRESETS = [(group, option) for group, option in OPTIONS if group not in parts.INJECTED_ARGUMENTS]


def compose(*overrides, name="train"):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(name, overrides=list(overrides))


def with_root(group, option):
    """The choice, with something for the keys that a dataset needs, its root above all."""
    keys = OmegaConf.load(CONFIGS / group / f"{option}.yaml") if group == "dataset" else {}
    needed = [f"dataset.{key}=somewhere" for key in keys if OmegaConf.is_missing(keys, key)]
    return [f"{group}={option}", *needed]


def test_every_group_has_options_and_every_part_a_group():
    assert set(GROUPS) == {*parts.INJECTED_ARGUMENTS, "model", "experiment", "trainer"}
    assert {group for group, _ in OPTIONS} == set(GROUPS)


@cache
def together(place):
    """The composed options that stand at this place among those of their groups.

    Composing takes a tenth of a second, and the options of different groups do not meet.
    """
    chosen = [(g, [o for group, o in PARTS if group == g]) for g in parts.INJECTED_ARGUMENTS]
    rows = [with_root(group, options[place]) for group, options in chosen if place < len(options)]
    return compose(*sum(rows, []))


def composed(group, option):
    """The node of an option."""
    cfg = together([o for g, o in PARTS if g == group].index(option))
    assert cfg[group] is not None
    return cfg[group]


@pytest.mark.parametrize(("group", "option"), PARTS)
def test_every_option_composes_and_binds_to_its_constructor(group, option):
    node = composed(group, option)
    alone = OmegaConf.load(CONFIGS / group / f"{option}.yaml")
    if "_target_" in alone:
        assert node._target_ == alone._target_  # it is this option's
    check(node, group, parts.INJECTED_ARGUMENTS[group])


@pytest.mark.parametrize(("group", "option"), PRESETS)
def test_every_preset_composes_and_its_parts_fit_each_other(group, option):
    cfg = compose(f"{group}={option}")
    if OmegaConf.is_missing(cfg.dataset, "root"):
        cfg.dataset.root = "somewhere"
    parts.check_all(cfg)


@pytest.mark.parametrize("option", [o for g, o in OPTIONS if g in ("loss", "augment", "schedule")])
def test_what_needs_nothing_of_the_engine_builds(option):
    group = next(g for g, o in OPTIONS if o == option and g in ("loss", "augment", "schedule"))
    assert part(composed(group, option), group) is not None


@pytest.mark.parametrize(
    ("loss", "option"),
    [
        pytest.param(loss, option, marks=() if loss == "focal" or not i else pytest.mark.slow)
        for loss in ("bce", "focal", "multibox")
        for i, option in enumerate(BOXES)
    ],
)
def test_every_box_loss_goes_into_every_loss_with_one(loss, option):
    cfg = compose(f"loss={loss}", f"loss/box={option}")
    assert cfg.loss.box == OmegaConf.load(CONFIGS / "loss" / "box" / f"{option}.yaml")
    parts.check_all(cfg)
    assert type(part(cfg.loss, "loss").box).__name__ == cfg.loss.box._target_.rpartition(".")[2]


def test_a_classifier_composes_with_the_box_term_of_its_loss():
    cfg = compose("model=resnet18", "loss=bce", "loss/box=giou")
    parts.check_all(cfg)
    assert "box" not in compose("model=resnet18").loss


@pytest.mark.parametrize("name", ["eval", "predict", "resume"])
def test_the_other_commands_compose(name):
    cfg = compose(name=name)
    assert cfg.device == "auto" and cfg.trust is False


def test_precedence_command_line_experiment_model_group():
    bare = compose(
        "~model"
    )  # the schema alone, whose values a detector's preset leaves as they are
    assert (bare.image_size, bare.loader.batch_size, bare.trainer.epochs) == (224, 8, 40)
    assert compose("model=ssd_resnet34").trainer == bare.trainer
    assert compose("model=resnet18").image_size == "auto"
    assert compose("model=resnet18").loader.batch_size == 32
    demo = compose("experiment=demo")
    assert demo.image_size == 96 and demo.trainer.epochs == 1  # its model says 224 and 40
    assert demo.loader.batch_size == 16
    said = compose("experiment=demo", "image_size=64", "trainer.epochs=2")
    assert said.image_size == 64 and said.trainer.epochs == 2
    assert said.loader.batch_size == 16


@pytest.mark.parametrize("base", BASES, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_a_base_is_included_by_others_and_offered_to_nobody(base):
    line = f"- _base/{base.stem}"
    files = [p for p in base.parent.parent.glob("*.yaml") if line in p.read_text()]
    assert len(files) > 3
    assert not any("_base" in option for option in keys.options(base.parent.parent.name))


def test_precedence_of_groups():
    def target(*overrides):
        cfg = compose(*overrides)
        return cfg.loss._target_.rpartition(".")[2], cfg.backbone.name

    assert target() == ("Focal", "resnet34")
    assert target("model=resnet18") == ("CrossEntropy", "resnet18")
    assert target("model=resnet18", "loss=bce") == ("BCE", "resnet18")
    assert target("model=ssd_resnet34", "backbone=resnet50") == ("Focal", "resnet50")
    assert target("experiment=demo", "loss=multibox") == ("Multibox", "resnet18")
    assert target("experiment=demo", "model=resnet50") == ("Focal", "resnet18")
    assert target("experiment=demo", "backbone=resnet50") == ("Focal", "resnet50")


def test_the_keys_of_a_group_stay_with_its_choice():
    cfg = compose("head=linear")
    assert set(cfg.head) == {"_target_", "pooling", "dropout", "top"}  # nothing of ssd's is left


@pytest.mark.parametrize(
    "wrong", ["trainer.epochs=abc", "trainer.epoch=3", "sed=1", "trainer.precision=half"]
)
def test_hydra_refuses_what_the_schema_does_not_know(wrong):
    with pytest.raises((ConfigCompositionException, OmegaConfBaseException)):
        compose(wrong)


def test_a_checkpoints_configuration_is_changed_key_by_key():
    saved = schema.plain(compose("model=ssd_resnet34"))
    changed = inherit(saved, compose("head.postprocess.iou=0.4", name="eval"))
    assert changed.head.postprocess == saved["head"]["postprocess"] | {"iou": 0.4}
    parts.check_all(changed)
    with pytest.raises(UserError, match="head.postprocess.iuo: .*no such key; did you mean 'iou'"):
        inherit(saved, compose("head.postprocess.iuo=0.4", name="eval"))
    with pytest.raises(
        UserError, match="head.postprocess.keep: this key is called .*max_detections"
    ):
        inherit(saved, compose("head.postprocess.keep=4", name="eval"))
