"""Draws a detector's anchors: those of each level, and those matched to each object."""

from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

import cv2
import numpy as np
import torch
from torch import Tensor

from engine.data.image import write_rgb
from engine.data.loader import Loader
from engine.distributed.processes import rank_zero_only
from engine.network import Network
from engine.output.draw import SMALLEST, Labels, colours
from engine.structures import Objects, Output, Sample, collate

MATCHED = 4  # training images whose matches are drawn
MATCHES = [f"matches_{i}.jpg" for i in range(MATCHED)]
FADED = 0.5  # of the brightness
GRID = 110  # grey of the lines between cells
Grid = tuple[np.ndarray, Tensor, Tensor]
# Of a network, by loader: the warnings before the first epoch and the drawing share a forward pass,
# which at 800 pixels takes a CPU three seconds.
_grids: WeakKeyDictionary[Network, WeakKeyDictionary[Loader, Grid | None]] = WeakKeyDictionary()


def _large(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Return an enlarged copy of [H, W, 3], and the factor."""
    enlarge = max(1.0, SMALLEST / max(image.shape[:2]))
    large = cv2.resize(image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
    return large, enlarge


def _canvas(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Return an enlarged and darkened copy, on which thin lines show, and the factor."""
    large, enlarge = _large(image)
    return (large * FADED).astype(np.uint8), enlarge


def _rectangle(image: np.ndarray, box: Tensor, colour: np.ndarray, width: int = 1) -> None:
    x1, y1, x2, y2 = box.round().int().tolist()
    cv2.rectangle(image, (x1, y1), (x2, y2), colour.tolist(), width)


def anchors(image: np.ndarray, slots: Tensor, cells: Tensor) -> np.ndarray:
    """Return one panel a level, side by side: the image with the grid and the anchors of one cell.

    Args:
        image: [H, W, 3] RGB, the network's input.
        slots: [A, 4] in its pixels.
        cells: [A, 2] (width, height) of each slot's grid cell; a level is the slots of one size.
    """
    sizes = torch.unique(cells, dim=0)  # finest first
    panels = [_level(image, slots[(cells == size).all(1)], size) for size in sizes]
    return np.concatenate(panels, 1)


def _level(image: np.ndarray, slots: Tensor, cell: Tensor) -> np.ndarray:
    drawn, enlarge = _canvas(image)
    size = torch.tensor(image.shape[1::-1])
    columns, rows = (size / cell).round().int().tolist()
    across, down = (cell * enlarge).tolist()
    for x in range(1, columns):
        drawn[:, int(x * across)] = GRID
    for y in range(1, rows):
        drawn[int(y * down)] = GRID
    middle = torch.tensor([columns // 2, rows // 2])
    x, y = middle.tolist()
    cut = slice(int(y * down), int((y + 1) * down)), slice(int(x * across), int((x + 1) * across))
    drawn[cut] = _large(image)[0][cut]  # not darkened
    in_cell = slots[((slots[:, :2] + slots[:, 2:]) / 2 // cell == middle).all(1)]
    for box, colour in zip(in_cell * enlarge, colours(len(in_cell)), strict=True):
        _rectangle(drawn, box, colour, 2)
    text = f"{len(slots)} slots, {columns} x {rows} cells of {cell[0]:.0f} x {cell[1]:.0f}"
    Labels(drawn).add(text, 0, 0)
    return drawn


def matched_objects(boxes: Tensor, labels: Tensor, objects: Objects) -> Tensor:
    """Return the row [A] of the object that each slot is assigned to, -1 for none.

    Args:
        boxes: [A, 4] targets of the slots; the object with the nearest box is a slot's.
        labels: [A] targets of the slots.
        objects: of this image.
    """
    none = torch.full_like(labels, -1)
    if not len(objects):
        return none
    return torch.where(labels >= 0, torch.cdist(boxes, objects.boxes).argmin(1), none)


def matches(image: np.ndarray, slots: Tensor, matched: Tensor, objects: Objects) -> np.ndarray:
    """Return the image with each object in a thick line, its slots in thin lines of its colour.

    Args:
        image: [H, W, 3] RGB, the network's input.
        slots: [A, 4] in its pixels.
        matched: [A] row of the slot's object, -1 for none.
        objects: of this image, in its pixels.
    """
    drawn, enlarge = _canvas(image)
    palette = colours(len(objects))
    texts = Labels(drawn)
    for i, (box, colour) in enumerate(zip(objects.boxes * enlarge, palette, strict=True)):
        for slot in slots[matched == i] * enlarge:
            _rectangle(drawn, slot, colour)
        _rectangle(drawn, box, colour, 3)
    for i, box in enumerate((objects.boxes * enlarge).int().tolist()):
        texts.add(f"{int((matched == i).sum())} slots", box[0], box[1])
    return drawn


@rank_zero_only
def write(network: Network, train: Loader, val: Loader, folder: Path) -> None:
    """Write anchors.png and matches_*.jpg of the first images; nothing if slots have no grid.

    No matches for a head whose output has no coder (a first stage).
    """
    if (found := _grid(network, val)) is None:
        return
    image = anchors(*found)
    write_rgb(str(folder / "anchors.png"), image)
    for name, image in zip(MATCHES, _matched(network, _samples(train, MATCHED)), strict=False):
        write_rgb(str(folder / name), image)


def slots(network: Network, loader: Loader) -> np.ndarray | None:
    """Return the anchors [A, 4] of an image, xyxy in pixels of its input; None without a grid."""
    found = grid(network, loader)
    return None if found is None else found[0]


def grid(network: Network, loader: Loader) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the anchors [A, 4] of an image and their cells [A, 2], as `slots` does."""
    found = _grid(network, loader)
    return None if found is None else (found[1].numpy(), found[2].numpy())


def _grid(network: Network, loader: Loader) -> Grid | None:
    """The first image, its anchors [A, 4] and their cells [A, 2]; None without a grid."""
    known = _grids.setdefault(network, WeakKeyDictionary())
    if loader not in known:
        known[loader] = _computed(network, loader)
    return known[loader]


def _computed(network: Network, loader: Loader) -> Grid | None:
    first = _samples(loader, 1) if "boxes" in network.head.outputs else []
    if not first:
        return None
    boxes, cells = _output(network, first)[3:5]
    if cells is None or len(boxes) == 1:
        return None
    return first[0].image, boxes.cpu(), cells.cpu()


def _samples(loader: Loader, count: int) -> list[Sample]:
    """Return the first samples, augmented as in epoch 0; unreadable images are left out."""
    dataset = loader.loader.dataset
    first = (dataset[0, i] for i in range(min(count, len(loader.dataset))))
    return [sample for sample in first if isinstance(sample, Sample)]


@torch.no_grad()
def _output(network: Network, samples: list[Sample]) -> Output:
    """By `forward`, not `__call__`, in evaluation mode: nothing is compiled, no state changes."""
    images = collate(samples).images.to(network.mean.device)
    return network.eval().forward(images).float()


@torch.no_grad()
def _matched(network: Network, samples: list[Sample]) -> Iterator[np.ndarray]:
    if not samples or (output := _output(network, samples)).coder is None:
        return
    objects = collate(samples).objects
    assigned = network.head.assign(output, objects.to(network.mean.device))
    boxes, labels = output.decoded(assigned.boxes).cpu(), assigned.labels.cpu()
    for i, sample in enumerate(samples):
        matched = matched_objects(boxes[i], labels[i], objects.of(i))
        yield matches(sample.image, output.slots.cpu(), matched, objects.of(i))
