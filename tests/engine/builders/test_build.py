from collections.abc import Sequence
from typing import Any, Literal

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from engine.builders import from_checkpoint, parts
from engine.builders.instantiate import check, part
from engine.config import schema
from engine.config.image_size import size_of
from engine.config.ranges import fits
from engine.errors import UserError
from engine.weights import checkpoint

AUGMENT = "engine.data.augment.Augment"
SSD = "detect.heads.ssd.SSD"


def compose(*overrides):
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides))


def refusal(call, *args):
    with pytest.raises(UserError) as caught:
        call(*args)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def node(target, **arguments):
    return OmegaConf.create({"_target_": target, **arguments})


@pytest.mark.parametrize(
    ("value", "hint", "good"),
    [
        (1, int, True),
        (1.5, int, False),
        (True, int, False),
        ("1", int, False),
        (1, float, True),
        (1.5, float, True),
        (True, float, False),
        ("1.5", float, False),
        (True, bool, True),
        (1, bool, False),
        ("a", str, True),
        (1, str, False),
        (None, int, False),
        (None, int | None, True),
        (None, type(None), True),
        (2, int | None, True),
        ("2", int | None, False),
        ([1, 2.5], Sequence[float], True),
        ([1, "x"], Sequence[float], False),
        (1.0, Sequence[float], False),
        ("abc", Sequence[str], False),  # a string is one name, not a list of letters
        ([], list[int], True),
        ([0.9, 0.99], tuple[float, float], True),
        ([[1, 2], [3, 4]], Sequence[Sequence[float]], True),
        ([[1, 2], 3], Sequence[Sequence[float]], False),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (object(), Any, True),
        ("x", torch.nn.Module, False),
        (None, torch.nn.Module | None, True),
        ("x", "a forward reference", True),
    ],
)
def test_fits(value, hint, good):
    assert fits(value, hint) is good


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (node(AUGMENT, flipp=0.5), "part.flipp: Augment takes no such argument; did you mean"),
        (node(AUGMENT, qqqq=1), "part.qqqq: Augment takes no such argument"),
        (node(AUGMENT, flip="often"), "part.flip=often: expected a number from 0 to 1, got str"),
        (node(AUGMENT, flip=True), "part.flip=True: expected a number from 0 to 1, got bool"),
        (node(AUGMENT, scale=0.5), "part.scale=0.5: expected a list of 2, each a number from 0.01"),
        (node(AUGMENT, flip=None), "part.flip=None: expected a number from 0 to 1, got NoneType"),
        (node("engine.training.clip.Value", max="???"), "part.max is needed: set part.max=..."),
        (node("engine.training.clip.Value"), "part: Value also needs max"),
        (node("engine.training.clip.Valu"), "part._target_: cannot import engine.training.clip.V"),
        (
            node("no_such_module.Class"),
            "part._target_: no package 'no_such_module' for no_such_module.Class; put the folder",
        ),
        (OmegaConf.create({"max": 1.0}), "part: names no class (_target_); pick an option"),
        (
            node("detect.losses.multibox.Multibox", box=node("detect.losses.box.SmoothL1", bta=1)),
            "part.box.bta: SmoothL1 takes no such argument; did you mean 'beta'?",
        ),
    ],
)  # fmt: skip
def test_a_wrong_node_is_refused_by_its_key(wrong, message):
    assert refusal(check, wrong, "part").startswith(message)


def test_what_the_engine_gives_is_not_missing():
    head = node("classify.heads.linear.Linear")
    assert "also needs activation, channels, num_classes" in refusal(check, head, "head")
    check(head, "head", parts.INJECTED_ARGUMENTS["head"])


def test_part_gives_only_what_is_asked_for():
    head = part(
        node("classify.heads.linear.Linear", top=2), "head", channels=[4], strides=[8],
        num_classes=3, activation="softmax",
    )  # fmt: skip
    assert head.linear.weight.shape == (3, 4) and head.postprocess.top == 2


def test_a_constructors_own_refusal_comes_through():
    message = refusal(part, node(AUGMENT, fit="cut"), "augment")
    assert message == "augment.fit=cut: expected squeeze, letterbox or crop"


def test_the_default_configuration_passes():
    parts.check_all(compose())


@pytest.mark.parametrize(
    ("overrides", "outputs"),
    [
        (
            ["model=resnet18", "loss=multibox"],
            ["Multibox needs boxes + logits", "Linear outputs logits", "bce, cross_entropy, focal"],
        ),
        (
            ["head=yolo_v3", "loss=focal"],
            ["Focal", "YOLOv3 outputs boxes + logits + objectness", "do: yolo_v1, yolo_v2, yolo"],
        ),
        (["head=ssd", "loss=cross_entropy"], ["CrossEntropy", "bce, focal, ", "multibox"]),
        (["head=ssd", "loss=yolo_v3"], ["YOLOv3 needs boxes + logits + objectness", "focal"]),
        (["model=resnet18", "metric=voc_map"], ["VOCMap scores boxes + logits", "Linear outputs"]),
        (
            ["loss=single"],
            ["Single needs boxes in one slot", "SSD outputs boxes", "do: bce, focal, "],
        ),
        (
            ["head=single", "loss=cross_entropy", "metric=single"],
            ["CrossEntropy", "Single outputs boxes + logits", "multibox, single"],
        ),
        (["head=single_box", "loss=focal"], ["Focal needs logits", "do: single"]),
        (["head=single_class", "loss=single"], ["Single needs boxes in one slot", "cross_entropy"]),
        (
            ["head=single_box", "loss=single", "metric=single"],
            ["Single scores boxes + logits", "the head Single outputs boxes: pick another metric="],
        ),
        (["head=single_class", "loss=bce", "metric=single_box"], ["SingleBox scores boxes,"]),
        (["head=single", "head.predict_classes=false", "head.predict_boxes=false"],
         ["expected at least one true"]),
        (["metric=top_k"], ["TopK scores logits", "SSD outputs boxes + logits"]),
        (["+loss.gama=1"], ["loss.gama: Focal takes no such argument; did you mean 'gamma'?"]),
        (["clip.max=high"], ["clip.max=high: expected a number above 0, at most 1,000,000, got"]),
        (["optimizer.lr=fast"], ["optimizer.lr=fast: expected "]),
        (["head.postprocess.iou=[1]"], ["head.postprocess.iou=[1]: expected a number above 0"]),
        (
            ["model=resnet18", "loss=focal", "metric=top_k", "augment=imagenet", "augment.mixup=1"],
            ["shares of classes", "the loss Focal does not take", "loss=cross_entropy"],
        ),
        (["dataset=voc"], ["dataset.root is needed: set dataset.root=..."]),
        (["optimizer=adamw", "optimizer.betas=[0.9]"], ["optimizer.betas=[0.9]: expected a list"]),
        (["loader.sizes=[64,100]"], ["loader.sizes=[64, 100]: expected sides, multiples of 32"]),
        (["image_size=16"], ["image_size=16: expected 32 to 4,096 pixels, [height"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(overrides, outputs):
    message = refusal(parts.check_all, compose("dataset=shapes", *overrides))
    assert [words for words in outputs if words not in message] == []


@pytest.mark.parametrize(
    ("value", "size"), [(224, (224, 224)), ([64, 96], (64, 96)), (32, (32, 32))]
)
def test_size_of(value, size):
    assert size_of(OmegaConf.create({"image_size": value})) == size


@pytest.mark.parametrize(
    "value", [31, 4097, 10**6, 0, -5, [64], [64] * 3, [64, 8], "big", None, 96.5, []]
)
def test_size_of_refuses(value):
    message = refusal(size_of, OmegaConf.create({"image_size": value}))
    assert message.startswith(f"image_size={value}: expected 32 to 4,096 pixels")


def test_device():
    assert parts.device("cpu") == torch.device("cpu")
    assert parts.device("auto").type in ("cpu", "cuda", "mps")
    for name in ("gpu", "cuda:99", "tpu:x"):
        message = refusal(parts.device, name)
        assert message.startswith(f"device={name}: not usable here; expected auto, cpu, mps, cuda")


def test_a_head_of_one_slot_wants_one_label_an_image():
    # Shapes has images of several objects.
    message = refusal(parts.dataset, compose("model=resnet18", "dataset=shapes"), "train")
    assert message.startswith("head Linear predicts one class an image, ")
    assert message.endswith(
        "has 6: set model=ssd_resnet34, dataset.view=largest, or loss=bce metric=multi_label "
        "dataset.view=multilabel"
    )
    assert len(parts.dataset(compose("dataset.train=7"), "train")) == 7


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_classifier_of_the_largest_object_learns_shares_of_images(kind):
    cfg = compose("model=resnet18", "dataset.view=largest", "dataset.train=8", "image_size=64",
                  "augment=imagenet", f"augment.{kind}=1", "loader.batch_size=8")  # fmt: skip
    data = parts.dataset(cfg, "train")
    assert data.record(0).boxes is not None
    objects = next(iter(parts.loader(cfg, data, parts.device("cpu"), shuffle=True))).objects
    assert objects.has_shares
    sums = torch.zeros(8).index_add(0, objects.batch_index, objects.scores)
    assert (sums <= 1 + 1e-6).all()  # less where the object is cut off


def test_cutmix_is_refused_for_a_detector():
    cfg = compose("augment=imagenet", "augment.cutmix=1", "dataset.train=2")
    data = parts.dataset(cfg, "train")
    message = refusal(parts.loader, cfg, data, parts.device("cpu"), True)
    assert "the network learns boxes: set augment.cutmix=0" in message


def test_an_empty_split_is_refused():
    message = refusal(parts.dataset, compose("dataset=shapes", "dataset.val=0"), "val")
    assert "val" in message


def test_classes_must_be_the_trained_ones():
    from_checkpoint.check_classes(["cat", "dog"], ["cat", "dog"], "a.pt")
    message = refusal(from_checkpoint.check_classes, ["cat", "dog"], ["dog", "cat"], "a.pt")
    assert message == "a.pt was trained on the classes ['cat', 'dog'], this data has ['dog', 'cat']"


def load_checkpoint(path, loss, trust=False, more=()):
    """A checkpoint whose configuration has this loss, as eval and predict read it."""
    config = schema.plain(compose())
    state = {"config": {**config, "loss": loss}, "classes": ["a"], "model": {}, "epoch": 0}
    checkpoint.save(path, state)
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        cfg = hydra.compose("predict", overrides=[f"checkpoint='{path}'", f"trust={trust}", *more])
    return from_checkpoint.load(str(path), cfg, torch.device("cpu"))


@pytest.mark.parametrize(
    "loss",
    [
        {"_target_": "os.system", "command": "true"},
        {"_target_": "subprocess.run", "_args_": [["true"]]},
        {"_target_": "classify.losses.Focal", "box": {"_target_": "builtins.exec"}},
        {"_target_": "classify.losses.Focal", "box": [{"_target_": "os.system"}]},
        {"_target_": "classify.losses.Focal", "box": ({"_target_": "os.system"},)},
        {"_target_": "torchevil.Loss"},
        {"_target_": "torch.os.system", "command": "true"},  # what torch imports is not torch's
        {"_target_": "engine.weights.checkpoint.os.system", "command": "true"},
        {"_target_": "torch.load", "f": "a.pt", "weights_only": False},  # would unpickle
        {"_target_": "torch.hub.load", "repo_or_dir": "a/b", "model": "c"},
    ],
    ids=lambda loss: str(loss.get("box", loss["_target_"])),
)
def test_a_checkpoint_cannot_name_foreign_code(tmp_path, loss):
    path = tmp_path / "a.pt"
    message = refusal(load_checkpoint, path, loss)
    assert message.startswith(f"{path}: its configuration calls ")
    ours = loss["_target_"].startswith("engine.")  # of which no run writes such a file
    assert ("train.py wrote no such file" if ours else "trust=true") in message


@pytest.mark.parametrize("target", ["engine.gone.Loss", "engine.weights.checkpoint.FORMAT", 5])
def test_a_checkpoint_that_names_no_class_is_the_users_error(tmp_path, target):
    assert str(target) in refusal(load_checkpoint, tmp_path / "a.pt", {"_target_": target})


def test_unless_the_user_trusts_it(tmp_path):
    loss = {"_target_": "somebody.Loss"}
    _, full = load_checkpoint(tmp_path / "a.pt", loss, trust=True)
    assert full.loss == loss


def test_a_checkpoint_of_this_project_needs_no_trust(tmp_path):
    saved, full = load_checkpoint(tmp_path / "a.pt", schema.plain(compose())["loss"])
    assert saved["classes"] == ["a"] and full.trainer.precision is schema.Precision.auto


def test_a_value_of_another_type_than_the_checkpoints_is_named_by_its_key(tmp_path):
    loss = schema.plain(compose())["loss"]
    message = refusal(load_checkpoint, tmp_path / "a.pt", loss, False, ["+trainer.ema={a:1}"])
    assert ": its configuration: trainer.ema: Value " in message
