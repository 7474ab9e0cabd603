"""Runs a checkpoint and an exported file on the same images."""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from engine.builders import parts
from engine.data.loader import Loader
from engine.export.graph import RAW, Graph
from engine.export.parity import Parity
from engine.network import refuse_nan_output
from engine.protocols import Dataset, DatasetOptions
from engine.record import Record
from engine.runtime.exported import ExportedNetwork, boxes_of
from engine.runtime.session import Session, session
from engine.structures import Batch, Fixed, Objects
from engine.training.loop import true_objects

CPU = torch.device("cpu")
LARGER = 5 / 4  # of the sides of images, where a file is tried at another size
CELL = 32  # pixels, the coarsest stride of most networks: the other size is a multiple of it
TRIED = 2  # batches at that size


class Spread:
    """So many images of a dataset, evenly spread: of a folder a class, some of every class."""

    def __init__(self, data: Dataset, count: int) -> None:
        self.data = data
        self.rows = np.unique(
            np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int)
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def read(self) -> Callable[[int], bytes] | None:
        """The bytes of an image's file by its index, where the dataset reads them itself."""
        read = DatasetOptions.read.of(self.data)
        return read and (lambda index: read(int(self.rows[index])))

    def record(self, index: int) -> Record:
        """The truth about one image."""
        return self.data.record(int(self.rows[index]))

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        return self.data.image(int(self.rows[index]))


def images_of(cfg: DictConfig, split: str, count: int) -> Loader:
    """Batches of the first images of a split, as an evaluation makes them."""
    return parts.loader(cfg, Spread(parts.dataset(cfg, split), count), CPU)


def other_size(cfg: DictConfig, loader: Loader, size: tuple[int, int]) -> Loader:
    """The same images at another size than (height, width)."""
    sides = [-(-int(side * LARGER) // CELL) * CELL for side in size]
    changed = cfg.copy()
    changed.image_size = sides
    return parts.loader(changed, loader.dataset, CPU)


def open_file(path: Path) -> Session:
    """An exported file, to be run; a .pt2 file, which torch unpickles, was written just now."""
    if path.suffix != ".pt2":
        return session(path, CPU)
    module = torch.export.load(path).module()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {str(i): x.numpy() for i, x in enumerate(module(torch.from_numpy(images)))}

    return run


@torch.inference_mode()
def compare(
    graph: Graph, file: ExportedNetwork, loader: Loader, parity: Parity, batches: int | None = None
) -> dict[str, float]:
    """Compare on the first `batches` batches of a loader; milliseconds an image of each."""
    network, seconds, count = graph.network, np.zeros(2), 0
    for batch in islice(loader, batches):
        padding = batch.images[:1].expand(loader.batch_size - len(batch.meta), -1, -1, -1)
        clock = [time.process_time()]
        output = network(torch.cat([batch.images, padding])).first(len(batch.meta))
        wanted = network.decode(output.float())
        clock.append(time.process_time())
        tensors = dict(zip(graph.names, file.tensors(batch.images).values(), strict=True))
        clock.append(time.process_time())
        seconds, count = seconds + np.diff(clock), count + len(batch.meta)
        refuse_nan_output(output, batch.meta)
        parity.add_raw(output.float().numbers, {n: tensors[RAW + n] for n in output.numbers})
        parity.add(
            wanted, _objects(graph, tensors, batch), batch.meta, true_objects(loader, batch.meta)
        )
    of_each = (1000 * seconds / max(count, 1)).round(2).tolist()
    return dict(zip(("checkpoint", "file"), of_each, strict=True))


def _objects(graph: Graph, tensors: dict[str, torch.Tensor], batch: Batch) -> Objects:
    """The objects of a file's outputs."""
    boxes, scores = boxes_of(tensors, batch.images), tensors["scores"]
    if graph.nms:
        return Fixed(boxes, scores, tensors["labels"]).objects()
    return graph.network.head.postprocess(boxes, scores)
