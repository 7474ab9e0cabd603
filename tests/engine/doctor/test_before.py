"""Broken sets are named before the first epoch, each by one line with the key; good are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from broken_sets import CLASSIFIER, DETECTOR, HEIGHT, SMALL, WIDTH, folder, images, made, objects

from engine.doctor import before


def lines(*arguments, **others):
    run = made(*arguments, **others)
    return [f"{what}; {change}" for what, change in before.findings(run.cfg, run.run, run.loaders)]


def corner(boxes):
    """A width and a height read as the second corner, and the first one lost."""
    return np.concatenate([np.zeros((2, 2)), boxes[:, 2:] - boxes[:, :2]], 1)


def double(boxes):
    """Boxes of images of twice the sides."""
    return boxes * 2 + (WIDTH, HEIGHT) * 2


def later(records):
    """Records whose labels are all larger by one."""
    return [replace(record, labels=record.labels + 1) for record in records]


def edges(boxes):
    """Boxes at the left and the right edge of a wide image."""
    left = np.array([[2.0, 60, 60, 160], [1000, 60, 1070, 160]])
    return left + 0 * boxes


LABELS = [i % 3 for i in range(600)]
NO_THIRD = [i % 2 for i in range(600)]
PATHS = [f"{('ant', 'bee', 'cat')[k]}_{i}.png" for i, k in enumerate(LABELS)]
SHIFTED = [(k + 1) % 3 for k in LABELS]
ANCHORS = "head.anchors=[[1,1],[1,2],[2,1],[2,2],[2,3],[3,3]]"  # in cells, where pixels are due
BROKEN = {
    # what is broken: overrides, arguments of `made`, what its line says, the key it names
    "objects of a few pixels": (
        DETECTOR, {"train": objects(side=(8, 30))}, "100% of the objects are smaller than 2 cells "
        "of the finest grid, 16 x 16 pixels of the 96 x 96", "image_size"),
    "a class of two spellings": (
        DETECTOR, {"train": objects(), "classes": ["ant", "Ant", "cat"]},
        "classes that differ in capitals or spaces alone: ant 800, Ant 800", "dataset"),
    "anchors of another order": (
        [*DETECTOR, "head.scales=[20,25,30]", "head.levels=1"], {"train": objects(side=(70, 90))},
        "100% of the objects are reached by no anchor", "head.scales"),
    "anchors in another unit": (
        ["model=yolo_v3_tiny", *SMALL, ANCHORS], {"train": objects()},
        "100% of the objects are reached by no anchor", "head.anchors"),
    "a width and a height as a corner": (
        DETECTOR, {"train": objects(change=corner)}, "100% of the boxes touch the corner (0, 0)",
        "dataset.columns"),
    "boxes of larger images": (
        DETECTOR, {"train": objects(change=double)},
        "100% of the boxes lie off the image: are they in pixels of another size", "dataset.root"),
    "objects that a crop cuts off": (
        [*DETECTOR, "augment=none", "augment.fit=crop"],
        {"train": objects(size=(240, 1080), change=edges)},
        "100% of the boxes lie off the image as it is cut to 96 x 96", "augment.fit=squeeze"),
    "a rare class of boxes": (
        DETECTOR, {"train": [*objects(classes=2), *objects(2)]},
        "1 of 3 classes have fewer than 5 training objects: cat 1", "dataset"),
    "a rare class of images": (
        CLASSIFIER, {"train": images([*NO_THIRD, 2, 2])},
        "1 of 3 classes have fewer than 5 training objects: cat 2", "dataset"),
    "an image of a class in validation alone": (
        CLASSIFIER, {"train": images(NO_THIRD), "val": images(LABELS)},
        "validation has classes that no training image has: cat", "dataset"),
    "a background in front": (
        DETECTOR, {"train": later(objects()), "classes": ["none", "ant", "bee", "cat"]},
        "the labels look shifted by one: all 3 classes have objects but the first, 'none'",
        "dataset"),
    "labels beside those of the paths": (
        CLASSIFIER, {"train": images(SHIFTED, PATHS)}, "the labels look shifted by one in 100% of "
        "256 images: 'ant' in a path is labelled 'bee'", "dataset"),
    "images of 12 megapixels": (
        CLASSIFIER, {"train": images(LABELS, size=(3000, 4000))},
        "the images are 31 times as large as the network's input of 96 x 96", "image_size"),
    "ten steps of a schedule": (
        [*CLASSIFIER, "trainer.epochs=4", "loader.batch_size=60"], {"train": images(LABELS)},
        "40 steps in all are too few for the schedule;", "trainer.epochs to 5 "),
    "too few steps for batch statistics": (
        [*CLASSIFIER, "trainer.epochs=1", "loader.batch_size=60"], {"train": images(LABELS)},
        "10 steps in all are too few for the schedule and the statistics of batch normalisation",
        "trainer.epochs to 5 "),
    "one image a batch": (
        [*CLASSIFIER, "loader.batch_size=1"], {"train": images(LABELS)},
        "a batch of one image has no statistics", "loader.batch_size"),
    "the README's first line on 120 images": (
        ["model=ssd_resnet34", "loss=focal", "image_size=96"], {"train": objects(120)},
        "million random parameters on 120 images", "backbone.weights"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_set_is_named_with_its_key(name):
    overrides, sets, says, key = BROKEN[name]
    found = lines(overrides, **sets)
    assert len(found) == 1, found
    assert says in found[0]
    assert key in found[0].split("; ", 1)[1]


@pytest.mark.parametrize(
    ("overrides", "train"),
    [(DETECTOR, objects()), (CLASSIFIER, images(LABELS, PATHS))],
    ids=["boxes", "images"],
)
def test_a_good_set_is_not(overrides, train):
    assert lines(overrides, train) == []


def test_files_are_measured_by_their_headers(tmp_path):
    good = {"ant": (300, 120), "bee": (300, 120)}
    root = folder(tmp_path / "good", train=good, val=good)
    data = [*CLASSIFIER, "dataset=image_folder"]
    assert lines([*data, root]) == []
    large = {"ant": (300, 640), "bee": (300, 640)}
    root = folder(tmp_path / "large", train=large, val=good)
    assert "7 times as large as the network's input of 96 x 96" in "".join(lines([*data, root]))


def test_a_trial_on_a_few_images_is_short_on_purpose():
    assert lines([*DETECTOR, "trainer.overfit=8"], objects()) == []
    assert lines([*DETECTOR, "trainer.limit=1", "trainer.epochs=1"], objects()) == []


def test_a_sample_of_a_long_list_has_rare_classes():
    names = [f"class {i}" for i in range(80)]  # COCO's 80 classes in 80 images
    few = images([i % 60 for i in range(80)])
    found = lines(CLASSIFIER, few, classes=names)
    assert not any("fewer than" in line for line in found)


def test_nothing_of_the_run_changes():
    run = made(DETECTOR, objects(100))
    state = {k: v.clone() for k, v in run.run.network.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    before.findings(run.cfg, run.run, run.loaders)
    assert all(torch.equal(v, state[k]) for k, v in run.run.network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_a_resumed_run_is_not_examined(caplog):
    caplog.set_level("INFO")
    run = made([*DETECTOR, "trainer.epochs=1", "loader.batch_size=60"], objects())
    before.report(run.cfg, run.run, run.loaders)
    assert [m.split(";")[0] for m in caplog.messages] == [
        "warning: 10 steps in all are too few for the schedule and the statistics of batch "
        "normalisation"
    ]
    caplog.clear()
    run.run.clock.step = 5
    before.report(run.cfg, run.run, run.loaders)
    assert caplog.messages == []


WEIGHTS = "weights/mobilenetV1X0.25_pretrain.tar"
RUNGS = ["1_largest", "4_multi_label", "5_grid", "6_anchors", "9_ssd", "10_pyramid"]
ALIKE = ["2_one_box", "3_box_and_class", "7_focal", "8_nms"]  # data and slots of another rung
SLOW = (*ALIKE, "detector_coco", "detector_voc", "classifier")
GOOD = {
    "bccd_pretrained": ("bccd", True, ["experiment=bccd_pretrained"]),
    "bccd_scratch": ("bccd", False, ["experiment=bccd_scratch"]),
    "detector_bccd": ("bccd", True, ["experiment=detector", "dataset=voc"]),
    "detector_coco": ("coco_tiny", True, ["experiment=detector", "dataset=coco"]),
    "detector_voc": (
        "voc2012_sub",
        True,
        [
            "experiment=detector",
            "dataset=voc",
            "dataset.classes=[cat,cow,dog,horse,person,sheep]",
            "dataset.on_error=skip",
        ],
    ),  # fmt: skip
    "classifier": ("hymenoptera256", True, ["experiment=classifier", "dataset=image_folder"]),
    "coco": ("coco_tiny", True, ["dataset=coco", "backbone=mobilenet_v1_025"]),
    "hymenoptera": ("hymenoptera256", True, ["experiment=transfer", "finetune=head"]),
    "hymenoptera_random": ("hymenoptera256", False, ["experiment=transfer"]),
    "cifar": ("cifar10_subset", False, ["experiment=cifar_subset"]),
    **{rung: ("voc2012_sub", True, [f"experiment=ladder/{rung}"]) for rung in (*RUNGS, *ALIKE)},
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in GOOD]
)
def test_real_sets_under_their_recipes_are_not_named(name, shared_data):
    root, has_weights, overrides = GOOD[name]
    weights = [f"backbone.weights={shared_data / WEIGHTS}"] * has_weights
    place = f"dataset.root={shared_data / root}"
    assert lines([*overrides, place, *weights, "loader.workers=0"]) == []


def test_drawn_shapes_are_not_named():
    assert lines(["experiment=demo", "loader.workers=0"]) == []
