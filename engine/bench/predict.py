"""What an image costs `predict.py` beyond its network: `python -m engine.bench part=predict`.

From files to files on one thread, with a network that takes no time and finds so many objects an
image, of which three are drawn. Decoding the same images alone, and making the network's input of
them, stand beside it.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from engine.bench.alternate import alternate
from engine.config.schema import Precision
from engine.data.ahead import Kept
from engine.data.augment import Augment
from engine.data.files import Files
from engine.data.image import read_rgb
from engine.data.loader import Loader, configure_worker_threads
from engine.output.predictions import named
from engine.output.results import Results, kept_images
from engine.structures import Objects, Output
from engine.training.loop import predict_batches

CPU = torch.device("cpu")
CLASSES = [f"class {i}" for i in range(20)]
SAVED = (["json"], ["images", "json"], ["csv"], ["yolo"], ["crops"])
DRAWN = 3  # objects an image, the best ones; VOC's have 2.4
BATCH = 16


class Finds:
    """In the place of a network: finds `objects` in every image of (height, width) `size`."""

    def __init__(self, *, objects: int, size: tuple[int, int], seed: int) -> None:
        corners = torch.rand(objects, 2, 2, generator=torch.Generator().manual_seed(seed))
        boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
        self.boxes = boxes * torch.tensor((*size[::-1], *size[::-1]))
        self.labels = torch.arange(objects) % len(CLASSES)
        self.scores = torch.linspace(1, 0.1, objects)
        self.show = float(self.scores[:DRAWN].min()) if objects else 1.0

    def eval(self) -> None:
        """Nothing is to be set."""

    def __call__(self, images: Tensor) -> Output:
        """An output that tells nothing but the number of images."""
        return Output(logits=torch.zeros(len(images), 1, 1))

    def decode(self, output: Output) -> Objects:
        """The same objects in each image."""
        one = Objects(self.boxes, self.labels, scores=self.scores)
        return Objects.cat([one] * len(output.logits))


def measure(
    *, root: list[str], images: int, side: int, objects: list[int], batch: int | None,
    repeats: int, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each folder, number of objects and way.

    `ms` is the median over the repeats of the process's CPU time an image, `fastest` and `slowest`
    its spread; `of_decoding` the share of decoding the full image, `beyond_input` the milliseconds
    over making the network's input.
    """
    torch.set_num_threads(1)
    configure_worker_threads()
    rows = []
    for folder in root:
        data = Files(source=folder)
        data.paths = data.paths[:images]
        for count in objects:
            network = Finds(objects=count, size=(side, side), seed=seed)
            with tempfile.TemporaryDirectory() as out:
                peers = _peers(data, network, side, batch or BATCH, Path(out))
                _, seconds = alternate(peers, repeats)
            rows += _rows(Path(folder).name, count, len(data), seconds)
    return rows


def _rows(
    name: str, objects: int, images: int, seconds: dict[str, list[float]]
) -> list[dict[str, Any]]:
    ms = {way: [1e3 * each / images for each in turns] for way, turns in seconds.items()}
    middle = {way: median(turns) for way, turns in ms.items()}
    return [
        {
            "images": name,
            "objects": objects,
            "way": way,
            "ms": middle[way],
            "fastest": min(turns),
            "slowest": max(turns),
            "of_decoding": middle[way] / middle["decoding"],
            "beyond_input": middle[way] - middle["input"],
        }
        for way, turns in ms.items()
    ]


def _peers(
    data: Files, network: Finds, side: int, batch: int, out: Path
) -> dict[str, Callable[[], None]]:
    peers: dict[str, Callable[[], None]] = {
        "decoding": partial(_decode, data),
        "input": partial(_input, data, side, batch),
    }
    for save in SAVED:
        predict = partial(_predict, data, network, side, batch, out, save)
        peers[f"save=[{','.join(save)}]"] = predict
    return peers


def _decode(data: Files) -> None:
    for path in data.paths:
        read_rgb(str(path))


def _loader(data: Files, side: int, batch: int, kept: Kept) -> Loader:
    return Loader(dataset=data, augment=Augment(), size=(side, side), batch_size=batch, kept=kept)


def _input(data: Files, side: int, batch: int) -> None:
    for _ in _loader(data, side, batch, Kept(most=0)):
        pass


def _predict(data: Files, network: Any, side: int, batch: int, out: Path, save: list[str]) -> None:
    kept = kept_images(save=save, frames=False)
    loader = _loader(data, side, batch, kept)

    def image(index: int) -> Any:
        found = kept.take(index)
        return data.image(index) if found is None else found

    with Results(folder=out, save=save, categories=named(CLASSES, range(1, len(CLASSES) + 1)),
                 has_boxes=True, data=data, image=image, show=network.show, size=(side, side),
                 threads=0) as results:  # fmt: skip
        for found, made, _ in predict_batches(network, loader, CPU, Precision.fp32, losses=False):
            results.add(found, made.meta)
