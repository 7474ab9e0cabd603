"""Draws a page of samples before and after augmentation."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from omegaconf import DictConfig

from engine.builders.compatibility import learns_whole_images
from engine.builders.instantiate import part
from engine.config.image_size import size_of
from engine.data.image import write_rgb
from engine.data.image_file import UnreadableImage
from engine.data.samples import Samples
from engine.data.stored import header_of
from engine.data.upright import turn_of, upright
from engine.output.draw import SMALLEST, annotate
from engine.protocols import Dataset
from engine.structures import Objects, collate

TILE, PAIRS = SMALLEST, 4  # side of a tile of the page, pixels; pairs of tiles in a row
GROUND, GAP = 40, 8  # grey value of the background, and its width between two images, pixels


def write(cfg: DictConfig, data: Dataset, count: int, folder: Path) -> None:
    """Write samples.jpg: evenly chosen images, each before and after augmentation."""
    samples = Samples(
        dataset=data,
        augment=part(cfg.augment, "augment"),
        size=size_of(cfg),
        seed=cfg.seed,
        train=True,
        whole_images=learns_whole_images(cfg),
    )
    chosen = np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int))
    tiles = [tile for index in chosen.tolist() for tile in pair(samples, index)]
    if not tiles:
        return
    width = 2 * min(PAIRS, len(tiles) // 2)
    tiles += [np.full_like(tiles[0], GROUND)] * (-len(tiles) % width)
    page = np.concatenate(
        [np.concatenate(tiles[i : i + width], 1) for i in range(0, len(tiles), width)]
    )
    write_rgb(str(folder / "samples.jpg"), page)


def pair(samples: Samples, index: int) -> list[np.ndarray]:
    """Tiles [TILE, TILE, 3] of an image before and after augmentation; empty if unreadable."""
    after = samples[(0, index)]
    if isinstance(after, UnreadableImage):
        return []
    data, size = samples.dataset, after.meta.size
    record = data.record(index)
    turn = turn_of(record, size, partial(header_of, data, index, record))
    before = Objects.from_record(upright(record, turn, size), size)
    shown = ((data.image(index), before), (after.image, collate([after]).objects))
    return [tile(image, objects, data.classes) for image, objects in shown]


def tile(image: np.ndarray, objects: Objects, classes: list[str]) -> np.ndarray:
    """[TILE, TILE, 3]: the image with its objects, as large as fits, in the centre of the tile."""
    scale = (TILE - GAP) / max(image.shape[:2])
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    scaled = Objects(objects.boxes * scale, objects.labels, ignore=objects.ignore)
    drawn = annotate(image, scaled, classes, scores=False)
    page = np.full((TILE, TILE, 3), GROUND, np.uint8)
    top, left = ((TILE - side) // 2 for side in drawn.shape[:2])
    page[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return page
