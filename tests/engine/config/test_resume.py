"""What the command line of a run that goes on may say."""

import os
import zipfile

import hydra
import pytest

from engine.config import resume, schema
from engine.config.schema import CONFIGS
from engine.errors import UserError


def started_with(*overrides):
    """The configuration and the choices of a run, as its checkpoint keeps them."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=list(overrides), return_hydra_config=True)
    choices = {k: v for k, v in cfg.hydra.runtime.choices.items() if "hydra/" not in k}
    del cfg._content["hydra"]
    return schema.plain(cfg), choices


RUN = ["model=resnet18", "loss=bce", "optimizer=adam", "optimizer.lr=1e-3", "image_size=64",
       "dataset=voc", "dataset.root=/data", "seed=3", "preprocessing.std=[1,1,1]",
       "optimizer.betas=[0.8,0.9]"]  # fmt: skip


@pytest.fixture(scope="module")
def run():
    return started_with(*RUN)


@pytest.mark.parametrize(
    "same",
    [
        RUN, [], ["model=resnet18"], ["optimizer.lr=0.001"], ["image_size=64", "seed=3"],
        ["seed=5", "seed=3"],  # the last one wins
        ["backbone=resnet18", "head=linear"],  # what the model chose
        ["experiment=null", "trainer=null"], ["+image_size=64"], ["seed=${oc.decode:'3'}"],
        ["optimizer={lr: 1e-3, betas: [0.8, 0.9]}"], ["preprocessing.mean=null"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_equals_the_checkpoint_is_accepted(same, run):
    _, unchanged = resume.split(same)
    resume.check_unchanged(unchanged, *run)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ("model=resnet34", "model=resnet34: .*started with model=resnet18"),
        ("loss=focal", "loss=focal: .*started with loss=bce"),
        ("dataset=coco", "dataset=coco: .*started with dataset=voc"),
        ("experiment=demo", "experiment=demo: .*started with experiment=null"),
        ("trainer=debug/limit", "trainer=debug/limit: .*started with trainer=null"),
        ("head=null", "head=null: .*started with head=linear"),
        ("~loss", "loss=null: .*started with loss=bce"),
        ("optimizer.lr=0.01", "optimizer.lr=0.01: .*started with optimizer.lr=0.001"),
        ("image_size=96", "image_size=96: .*started with image_size=64"),
        ("image_size=[64,96]", r"image_size=\[64, 96\]: .*started with image_size=64"),
        ("seed=4", "seed=4: .*started with seed=3"),
        ("optimizer.betas=[0.9,0.9]", r"optimizer.betas=\[0.9, 0.9\]: .*\[0.8, 0.9\]"),
        ("+optimizer.extra=1", "optimizer.extra=1: .*started with optimizer.extra=null"),
        ("preprocessing.colour=BGR", "colour=BGR: .*started with preprocessing.colour=null"),
    ],
)
def test_what_differs_is_named_with_both_values(other, named, run):
    _, unchanged = resume.split([*RUN, other])
    with pytest.raises(UserError, match=named) as caught:
        resume.check_unchanged(unchanged, *run)
    assert "leave " in str(caught.value) and "\n" not in str(caught.value)


def test_what_may_change_goes_to_hydra_and_the_rest_is_compared():
    changes = ["trainer.epochs=9", "loader.workers=0", "head.postprocess.iou=.4", "dataset.root=F",
               "metric.iou=.5", "head={levels: 2}", "device=cpu", "profile=true", "trust=true",
               "hydra.verbose=true", "hydra/job_logging=none", "--cfg", "job", "-cd", "conf",
               "overwrite=true"]  # fmt: skip
    unchanged = ["model=a", "head=b", "dataset=c", "trainer=debug/fast", "loss/box=giou", "seed=0",
                 "~experiment", "+backbone.x=1", "image_size=64"]  # fmt: skip
    mixed = [x for pair in zip(changes, [*unchanged, *[""] * 7], strict=True) for x in pair if x]
    assert resume.split(mixed) == (changes, unchanged)


def test_a_list_of_overrides_survives_hydras_grammar():
    hard = ["a='b c'", 'x="it\'s"', "y=[1,{k: 'v'}]", "z=\\", "w=${x}", "p=a\\'b", "q=', e='"]
    parsed = resume.OverridesParser.create().parse_override(f"unchanged={resume.quoted(hard)}")
    assert [str(value) for value in parsed.value()] == hard


def test_a_checkpoint_of_an_older_version_compares_values_alone(run):
    resume.check_unchanged(["seed=3"], run[0], None)
    with pytest.raises(UserError, match="loss=bce: .*older version.*leave loss= out"):
        resume.check_unchanged(["loss=bce"], run[0], None)


def checkpoint(folder, name="last.pt", whole=True, age=0):
    path = folder / "checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"x" * 99)
    if not whole:
        path.write_bytes(path.read_bytes()[:50])
    os.utime(path, (1e9 - age, 1e9 - age))
    return str(path)


def test_auto_finds_the_checkpoint_of_a_folder(tmp_path):
    folder = tmp_path / "a[1]"  # not a pattern
    assert resume.find(str(folder)) is None
    best = checkpoint(folder, "best.pt")
    assert resume.find(str(folder)) == best  # an older version's goes on, another is told
    last = checkpoint(folder)
    assert resume.find(str(folder)) == last


@pytest.mark.parametrize("broken", [b"", b"PK\x03\x04 torn"])
def test_a_broken_checkpoint_is_named_and_never_started_over(broken, tmp_path):
    last = checkpoint(tmp_path, whole=False)
    with pytest.raises(UserError, match=r"last\.pt is broken.*overwrite=true"):
        resume.find(str(tmp_path))
    (tmp_path / "checkpoints/last.pt").write_bytes(broken)
    checkpoint(tmp_path, "best.pt")  # it holds what predicts
    with pytest.raises(UserError, match="last.pt is broken") as caught:
        resume.find(str(tmp_path))
    assert last in str(caught.value) and "resume=/" not in str(caught.value)


def test_auto_without_a_folder_takes_the_newest_run_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no outputs/.*hydra.run.dir=FOLDER"):
        resume.find(None)
    checkpoint(tmp_path / "outputs/1/1", age=50)
    checkpoint(tmp_path / "outputs/1/2", age=20)
    assert resume.find(None) == "outputs/1/2/checkpoints/last.pt"
    checkpoint(tmp_path / "outputs/2/1", whole=False)
    with pytest.raises(UserError, match="outputs/2/1/checkpoints/last.pt is broken"):
        resume.find(None)  # not an older run in its place


def test_the_run_folder_of_a_command_line(monkeypatch):
    monkeypatch.setenv("JOB", "17")
    assert resume.run_dir(["hydra.run.dir=a", "x=1", "hydra.run.dir='b c'"]) == "b c"
    assert resume.run_dir(["hydra.run.dir=runs/${oc.env:JOB}"]) == "runs/17"
    assert resume.run_dir(["seed=1"]) is None
