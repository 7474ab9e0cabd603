"""Data sets made in memory, a good one and how each of the others differs from it."""

import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from engine.builders import parts
from engine.builders.fit import fit
from engine.builders.instantiate import part
from engine.builders.run import prepare
from engine.config import schema
from engine.data.loader import Loader
from engine.record import Record

CPU = torch.device("cpu")
SMALL = ["backbone=mobilenet_v1_025", "image_size=96", "loader.workers=0"]
DETECTOR = ["model=ssd_resnet34", *SMALL]
CLASSIFIER = ["model=mobilenet_v1_025", *SMALL]
CLASSES = ["ant", "bee", "cat"]
HEIGHT, WIDTH = 240, 320  # of an image, pixels


class Memory:
    """Records of images of noise, each its own."""

    def __init__(self, records, classes=CLASSES):
        self.records, self.classes, self.report, self.notes = records, classes, [], []

    def __len__(self):
        return len(self.records)

    def record(self, index):
        return self.records[index]

    def image(self, index):
        shape = (*self.records[index].size, 3)
        return np.random.default_rng(index).integers(0, 256, shape, np.uint8)


def objects(count=600, *, classes=3, side=(70, 110), size=(HEIGHT, WIDTH), change=lambda b: b):
    """Two objects an image, of sides drawn from a range, inside it; then `change` of the boxes."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        sides = rng.uniform(*side, (2, 2))
        low = rng.uniform(2, np.array(size[::-1]) - sides - 2)
        boxes = change(np.concatenate([low, low + sides], 1)).astype(np.float32)
        labels = np.array([i, i + 1]) % classes
        found.append(Record(i, f"set/{i}.png", labels, boxes, size=size))
    return found


def images(labels, names=None, size=(HEIGHT, WIDTH)):
    """An image of each label, with a path of its name."""
    names = [f"{i}.png" for i in range(len(labels))] if names is None else names
    rows = zip(labels, names, strict=True)
    return [Record(i, f"set/{n}", np.array([k]), size=size) for i, (k, n) in enumerate(rows)]


@functools.cache
def composed(overrides):
    """The configuration of these choices, which takes longer than all that is done with it."""
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def made(overrides, train=None, val=None, classes=CLASSES):
    """What `engine.train` has before the first epoch: configuration, run and both loaders.

    Args:
        overrides: of the command line.
        train: records; None: those of the configured data set.
        val: alike; None: those of train.
        classes: names.
    """
    values = [override for override in overrides if "." in override.partition("=")[0]]
    base = composed(tuple(override for override in overrides if override not in values))
    cfg = OmegaConf.merge(base, OmegaConf.from_dotlist(values))
    torch.manual_seed(0)
    backbone = parts.backbone(cfg, fits=train is None)
    if train is None:
        data = [parts.dataset(cfg, split) for split in ("train", "val")]
        fit(cfg, data[0], backbone, CPU)
        loaders = [
            parts.loader(cfg, d, CPU, shuffle=s) for d, s in zip(data, (True, False), strict=True)
        ]
    else:
        sets = [Memory(records, list(classes)) for records in (train, val or train)]
        loaders = [_loader(cfg, d, s) for d, s in zip(sets, (True, False), strict=True)]
    network = parts.network(cfg, len(loaders[0].dataset.classes), backbone)
    run = prepare(cfg, network, len(loaders[0]), CPU)
    return SimpleNamespace(cfg=cfg, run=run, loaders=tuple(loaders))


def _loader(cfg, data, train):
    size = cfg.image_size
    return Loader(
        dataset=data,
        augment=part(cfg.augment, "augment"),
        size=(size, size),
        batch_size=cfg.loader.batch_size,
        train=train,
        images=cfg.trainer.overfit,
        limit=cfg.trainer.limit,
    )


def folder(root: Path, **splits):
    """An image folder of empty-looking files: splits of {class: (how many, side)}."""
    from PIL import Image

    for split, counts in splits.items():
        for name, (count, side) in counts.items():
            place = root / split / name
            place.mkdir(parents=True)
            Image.new("1", (side, side)).save(place / "0.png")
            content = (place / "0.png").read_bytes()
            for i in range(1, count):
                (place / f"{i}.png").write_bytes(content)
    return f"dataset.root={root}"
