"""What strangers met: the whole command from their side, with files and nothing of the engine.

It needs no name that an older version lacks, so that the same file tells there what was wrong.
The other halves of these stories are in test_trust.py (a class with an effect), test_categories.py
(ids with gaps), test_pretrained.py (weights of another network), test_statistics.py (48 images) and
test_cli_folder.py (two runs in one folder, a run that goes on).
"""

import json

import cv2
import numpy as np
import pytest
import torch
import torchvision
from command_line import TINY, ended, metrics, run

SMALL = [*TINY, "model=resnet_cifar", "backbone=resnet_cifar", "backbone.depth=8", "image_size=32",
         "dataset=shapes", "dataset.view=largest", "dataset.size=32", "dataset.train=8",
         "dataset.val=6"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The checkpoint of a small classifier, and an image beside it."""
    folder = tmp_path_factory.mktemp("trained")
    run("train.py", *SMALL, "hydra.run.dir=run", cwd=folder)
    write(folder / "in/a.png")
    return folder


def write(*paths, size=32):
    for i, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        image = np.random.default_rng(i).integers(0, 256, (size, size, 3), np.uint8)
        path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def changed(folder, name, **config):
    """The path of the checkpoint with parts of its configuration replaced."""
    state = torch.load(folder / "run/checkpoints/last.pt", weights_only=True)
    state["config"] |= config
    torch.save(state, folder / name)
    return f"checkpoint={name}"


def refused(*command, cwd):
    """The one line of a command that ends with exit code 2."""
    done = ended(*command, "hydra.run.dir=out", cwd=cwd)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr + done.stdout
    return done.stderr


@pytest.mark.parametrize("part", ["backbone", "loss"])
def test_a_checkpoint_that_calls_a_function_calls_nothing(part, trained):
    canary = trained / f"canary_{part}"
    call = f"${{oc.create:{{_target_: pathlib.Path.touch, self: {canary}}}}}"
    checkpoint = changed(trained, "evil.pt", **{part: call})
    done = ended("predict.py", checkpoint, "source=in", "hydra.run.dir=out", cwd=trained)
    assert not canary.exists(), "the function of the file has run"
    assert done.returncode == 2 and f"interpolation at {part}" in done.stderr


def test_a_checkpoint_does_not_empty_a_file_by_a_class_of_ours(trained):
    precious = trained / "precious.json"
    precious.write_text("not to be lost")
    writer = {"_target_": "engine.output.predictions.Writer", "path": str(precious)}
    old = writer | {"_target_": "engine.predictions.Writer"}  # its name of before
    for node in (writer, old):
        checkpoint = changed(trained, "evil.pt", backbone=node | {"categories": [1]})
        ended("predict.py", checkpoint, "source=in", "hydra.run.dir=out", cwd=trained)
        assert precious.read_text() == "not to be lost"
        assert "Writer" in refused("predict.py", checkpoint, "source=in", cwd=trained)


def test_trust_names_the_package_whose_classes_may_be_called(trained):
    checkpoint = changed(trained, "foreign.pt", clip={"_target_": "torch.nn.Identity"})
    predict = ["predict.py", checkpoint, "source=in"]
    assert "trust=[torch]" in refused(*predict, cwd=trained)
    assert "trust=[torch]" in refused(*predict, "trust=[torchvision]", cwd=trained)
    run(*predict, "trust=[torch]", "hydra.run.dir=out", cwd=trained)


def test_a_file_of_resnet34_is_none_of_resnet18(tmp_path):
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), tmp_path / "34.pth")
    write(tmp_path / "in/a.png")
    predict = ["predict.py", "backbone.weights=34.pth", "device=cpu", "loader.workers=0"]
    assert "weights of another network" in refused(*predict, "model=resnet18", "source=in",
                                                   cwd=tmp_path)  # fmt: skip
    run(*predict, "model=resnet34", "source=in", "hydra.run.dir=out", cwd=tmp_path)


def test_a_network_that_answers_every_image_alike_is_told(trained):
    state = torch.load(trained / "run/checkpoints/last.pt", weights_only=True)
    for name in ("model", "ema"):
        for key, tensor in (state[name] or {}).items():
            if key.startswith("head."):
                tensor.zero_()
    torch.save(state, trained / "constant.pt")
    said = "all 6 images the same output"
    evaluate = ["eval.py", "hydra.run.dir=eval", "loader.workers=0"]
    assert said in run(*evaluate, "checkpoint=constant.pt", cwd=trained)
    assert said not in run(*evaluate, "checkpoint=run/checkpoints/last.pt", cwd=trained)


COLOURS = {
    "red": (200, 60, 60),
    "blue": (60, 60, 200),
    "sand": (180, 160, 90),
    "sea": (60, 150, 160),
}


def write_classes(folder, train=12, val=4):
    """Noisy images of one colour each: 48 to train, 16 to validate."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for name, colour in COLOURS.items():
            for i in range(count):
                image = rng.normal(colour, 40, (48, 48, 3)).clip(0, 255).astype(np.uint8)
                path = folder / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())


def test_a_network_of_slow_batch_statistics_learns_a_few_images(tmp_path):
    write_classes(tmp_path / "data")
    out = run("train.py", *TINY, "model=mobilenet_v3_small", "backbone=mobilenet_v3_small",
              "image_size=48", "dataset=image_folder", "dataset.root=data", "trainer.epochs=8",
              "trainer.eval_every=8", "seed=1", "loader.batch_size=24", "hydra.run.dir=run",
              cwd=tmp_path)  # fmt: skip
    assert metrics(tmp_path / "run")["metrics"]["top1"] > 0.5  # of four classes
    assert "the same output" not in out


NAMES = ["a b.jpg", "a_b.jpg", "a-b.jpg", "a.b.jpg", "A b.jpg", "a.jpg", "a.png", "-a.png"]


def drawings(folder):
    return [path.name for path in folder.rglob("*.jpg")]


def test_as_many_drawings_as_images(trained, tmp_path):
    write(*(tmp_path / "in" / name for name in NAMES))
    run("predict.py", f"checkpoint={trained}/run/checkpoints/last.pt", "source=in",
        "hydra.run.dir=out", cwd=tmp_path)  # fmt: skip
    rows = json.loads((tmp_path / "out/predictions.json").read_text())
    assert len({row["image_id"] for row in rows}) == len(NAMES)
    assert len(drawings(tmp_path / "out")) == len(NAMES)


def test_names_as_long_as_a_file_system_takes(trained, tmp_path):
    names = ["x" * 251 + ".jpg", "x" * 251 + ".png", "é" * 125 + "x.png", "日" * 83 + "ab.png"]
    assert [len(name.encode()) for name in names] == [255] * 4
    write(*(tmp_path / "in" / name for name in names))
    run("predict.py", f"checkpoint={trained}/run/checkpoints/last.pt", "source=in",
        "hydra.run.dir=out", cwd=tmp_path)  # fmt: skip
    assert len(drawings(tmp_path / "out")) == len(names)


NONSENSE = {
    "loss.weight=-1": [],
    "optimizer.lr=inf": [],
    "schedule.final=nan": [],
    "preprocessing.std=[0,0,0]": [],
    "preprocessing.mean=[nan,0,0]": [],
    "head.prior=nan": ["loss=focal"],
    "augment.hue=nan": [],
    "augment.brightness=-1": [],
    "trainer.l1=nan": [],
    "loss.box.weight=nan": ["loss/box=giou"],
}


@pytest.mark.parametrize(
    "value",
    [pytest.param(v, marks=pytest.mark.slow if i > 4 else ()) for i, v in enumerate(NONSENSE)],
)
def test_a_value_that_makes_nonsense_is_refused_before_training(value, tmp_path):
    line = refused("train.py", *TINY, "image_size=64", "head.levels=2", "dataset.size=64",
                   "dataset.train=4", "dataset.val=2", *NONSENSE[value], value,
                   cwd=tmp_path)  # fmt: skip
    assert value.split("=")[0] in line and "expected" in line
    assert not list(tmp_path.rglob("*.pt"))
