"""Images a second on one core, decoded and augmented: `python -m engine.bench part=data`.

Every peer gets the same decoded pixels, by our own decoder, and its own library's version of SSD's
augmentation; all of them give uint8 images of one side, and boxes. One image of 12 megapixels
stands for photos: decoded no larger than asked for, beside decoded whole and resized.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from omegaconf import OmegaConf
from torchvision import tv_tensors
from torchvision.transforms import v2

from detect.datasets.voc import VOC
from engine.bench.alternate import alternate
from engine.builders.instantiate import part
from engine.config.schema import CONFIGS
from engine.console import info
from engine.data.augment import Augment
from engine.data.files import Files
from engine.data.image import read_rgb
from engine.data.loader import configure_worker_threads
from engine.data.samples import Samples
from engine.record import Record
from engine.structures import Sample, collate

Peer = Callable[[int], None]  # prepares the first so many images
PHOTO = (3000, 4000)  # (height, width) of 12 megapixels
FINE = {0: 0.1, 1: 0.3}  # strength of the finest noise, which lenses blur
VIEWS = 8  # of the photo, each drawn anew
BATCH = 16  # ours are made and collated in batches, as a run does


def measure(
    *, root: list[str], images: int, side: int, repeats: int, seed: int
) -> list[dict[str, Any]]:
    """A row for each folder and way to its images, and for each way to a photo.

    `a_second` is the median over the repeats, `slowest` and `fastest` its spread; `of_decoding`,
    `of_torchvision` and, of a photo, `of_resized` (by areas) are shares of those peers' medians,
    `of_decoding_fastest` is one of the fastest turns.
    """
    torch.set_num_threads(1)
    configure_worker_threads()
    torch.manual_seed(seed)
    rows = []
    for folder in root:
        dataset = VOC(root=folder, split="train")
        count = min(images, len(dataset))
        rows += _rows(Path(folder).name, _peers(dataset, side), count, repeats)
    with tempfile.TemporaryDirectory() as folder:
        return rows + _rows("12 megapixels", _photo(folder, side), min(images, VIEWS), repeats)


def _rows(name: str, peers: dict[str, Peer], count: int, repeats: int) -> list[dict[str, Any]]:
    turns = {peer: partial(prepare, count) for peer, prepare in peers.items()}
    _, seconds = alternate(turns, repeats)  # of the CPU: other programs hardly change them
    middle = {peer: count / median(each) for peer, each in seconds.items()}
    return [
        {
            "images": name,
            "way": peer,
            "a_second": middle[peer],
            "slowest": count / max(each),
            "fastest": count / min(each),
            "of_decoding": middle[peer] / middle["decoding"],
            "of_decoding_fastest": min(seconds["decoding"]) / min(each),
            "of_torchvision": middle[peer] / middle.get("torchvision", float("nan")),
            "of_resized": middle[peer] / middle.get("decoded, resized", float("nan")),
        }
        for peer, each in seconds.items()
    ]


def _each(one: Callable[[int], Any]) -> Peer:
    """A peer that knows one image at a time."""

    def prepare(count: int) -> None:
        for index in range(count):
            one(index)

    return prepare


def _ours(dataset: Any, augment: Augment, side: int, train: bool) -> Peer:
    samples = Samples(dataset=dataset, augment=augment, size=(side, side), seed=0, train=train)

    def prepare(count: int) -> None:
        for start in range(0, count, BATCH):
            keys = [(0, index) for index in range(start, min(start + BATCH, count))]
            collate([s for s in samples.__getitems__(keys) if isinstance(s, Sample)])

    return prepare


def _ssd() -> Augment:
    node: Any = OmegaConf.load(CONFIGS / "augment" / "ssd.yaml")
    return part(node, "augment")


class _Photos(Files):
    """One photo many times, with an object in its middle."""

    def __len__(self) -> int:
        return VIEWS

    def record(self, index: int) -> Record:
        height, width = PHOTO
        box = np.array([[width / 3, height / 3, width / 1.5, height / 1.5]], np.float32)
        return replace(super().record(0), labels=np.zeros(1, np.int64), boxes=box)

    def image(self, index: int) -> np.ndarray:
        return super().image(0)


def _peers(dataset: VOC, side: int) -> dict[str, Peer]:
    peers: dict[str, Peer] = {
        "decoding": _each(lambda index: read_rgb(dataset.record(index).path)),
        "augment=ssd": _ours(dataset, _ssd(), side, train=True),
        "torchvision": _each(_torchvision(dataset, side)),
    }
    for name, make in (("albumentations", _albumentations), ("ultralytics", _ultralytics)):
        if importlib.util.find_spec(name):
            peers[name] = _each(make(dataset, side))
        else:
            info(f"{name} is not installed: left out")
    return peers


def _torchvision(dataset: VOC, side: int) -> Callable[[int], Any]:
    """The preset "ssd" of torchvision's own reference scripts, and its SSD's resize."""
    recipe = v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=[123, 117, 104]),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.Resize((side, side)),
            v2.SanitizeBoundingBoxes(),
        ]
    )

    def one(index: int) -> Any:
        record = dataset.record(index)
        image = torch.from_numpy(read_rgb(record.path)).permute(2, 0, 1)
        boxes: Any = tv_tensors.BoundingBoxes(
            torch.from_numpy(record.boxes),
            format="XYXY",  # type: ignore[arg-type]
            canvas_size=image.shape[1:],  # type: ignore[arg-type]
        )
        target = {"boxes": boxes, "labels": torch.from_numpy(record.labels)}
        return recipe(tv_tensors.Image(image), target)

    return one


def _albumentations(dataset: VOC, side: int) -> Callable[[int], Any]:
    A: Any = importlib.import_module("albumentations")
    recipe = A.Compose(
        [
            A.ColorJitter(0.125, 0.5, 0.5, 0.05, p=0.5),
            A.RandomScale(p=0.0),
            A.RandomSizedBBoxSafeCrop(side, side, p=1.0),
            A.HorizontalFlip(p=0.5),
        ],
        bbox_params=A.BboxParams(
            format="pascal_voc", label_fields=["labels"], clip=True, filter_invalid_bboxes=True
        ),
    )

    def one(index: int) -> Any:
        record = dataset.record(index)
        return recipe(image=read_rgb(record.path), bboxes=record.boxes, labels=record.labels)

    return one


def _ultralytics(dataset: VOC, side: int) -> Callable[[int], Any]:
    """Its default affine, colours and flip, without mosaic."""
    augment: Any = importlib.import_module("ultralytics.data.augment")
    instance: Any = importlib.import_module("ultralytics.utils.instance")
    steps = [
        augment.LetterBox((side, side)),
        augment.RandomPerspective(translate=0.1, scale=0.5),
        augment.RandomHSV(0.015, 0.7, 0.4),
        augment.RandomFlip(direction="horizontal", p=0.5),
    ]

    def one(index: int) -> Any:
        record = dataset.record(index)
        image = read_rgb(record.path)
        boxes = instance.Instances(
            record.boxes, np.zeros((0, 1000, 2), np.float32), bbox_format="xyxy", normalized=False
        )
        labels = {"img": image, "cls": record.labels[:, None], "instances": boxes}
        for step in steps:
            labels = step(labels)
        return labels

    return one


def _photo(folder: str, side: int) -> dict[str, Peer]:
    """Noise at every scale, as a JPEG of 3 MB: as costly to decode as a phone's photo."""
    rng = np.random.default_rng(0)
    photo = np.zeros((*PHOTO, 3), np.float32)
    for level in range(9):
        small = rng.normal(0, 18, (PHOTO[0] >> level, PHOTO[1] >> level, 3)).astype(np.float32)
        photo += cv2.resize(small, PHOTO[::-1]) * FINE.get(level, 1)
    path = str(Path(folder, "photo.jpg"))
    pixels = (128 + photo).clip(0, 255).astype(np.uint8)
    cv2.imwrite(path, pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
    resized, photos = v2.Resize((side, side)), _Photos(source=path)

    def whole(_: int, how: int = cv2.INTER_AREA) -> Any:
        return cv2.resize(cv2.imread(path), (side, side), interpolation=how)  # type: ignore[arg-type]

    def torchvision(_: int) -> Any:
        return resized(torch.from_numpy(read_rgb(path)).permute(2, 0, 1))

    return {
        "decoding": _each(lambda _: read_rgb(path)),
        "decoded as small": _ours(photos, Augment(), side, train=False),
        "augment=ssd": _ours(photos, _ssd(), side, train=True),
        "torchvision": _each(torchvision),
        "decoded, resized": _each(whole),
        "decoded, sampled": _each(
            partial(whole, how=cv2.INTER_LINEAR)
        ),  # four pixels each: aliases
    }
