"""Anchors from a dataset: python -m detect.kmeans dataset=voc dataset.root=FOLDER k=9.

Clusters the boxes' sizes as the network sees them, at `image_size` and as `augment.fit` brings the
images there, by k-means under the distance 1 - IoU (arXiv 1612.08242, 2). Ignored objects have no
part in it.
"""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hydra.core.config_store import ConfigStore

from engine.cli import command
from engine.config.schema import TrainConfig
from engine.errors import UserError, did_you_mean

FORMATS = ("text", "json")
STRIDE = 32  # pixels, of YOLOv2's cells
ROUNDS = 300  # at most; by this distance the means need not settle


@dataclass
class KMeans(TrainConfig):
    """`python -m detect.kmeans`: the sizes of a dataset's boxes."""

    k: int = 9
    split: str = "train"
    format: str = "text"  # or json


ConfigStore.instance().store(name="kmeans_schema", node=KMeans)


@command("kmeans")
def main(cfg: Any) -> None:
    """Checked configuration in, the priors as text or one JSON document on standard output."""
    if cfg.format not in FORMATS:
        hint = did_you_mean(cfg.format, FORMATS)
        raise UserError(f"format={cfg.format}: expected {' or '.join(FORMATS)}{hint}")
    found = priors(sizes(cfg), cfg.k, cfg.seed)
    print(text(found) if cfg.format == "text" else json.dumps(found._asdict(), indent=1))


class Priors(NamedTuple):
    """Anchors by area, the smallest first."""

    boxes: int  # that were clustered
    mean_iou: float  # of each box with its best prior, on one centre
    pixels: list[list[float]]  # (width, height), of the network's input
    cells: list[list[float]]  # the same in cells of stride 32


def text(found: Priors) -> str:
    """The priors to read, in lists that `head.anchors` takes."""
    return (
        f"{len(found.pixels)} priors of {found.boxes} boxes, mean IoU {found.mean_iou:.4f}\n"
        f"pixels of the input: {found.pixels}\n"
        f"cells of {STRIDE} pixels (head=yolo_v2): {found.cells}"
    )


def sizes(cfg: Any) -> np.ndarray:
    """(width, height) [N, 2] of the split's boxes in pixels of the network's input."""
    import torch  # loads only now

    from engine.builders import parts

    data = parts.dataset(cfg, cfg.split)
    found = [np.zeros((0, 2), np.float32)]
    for batch in parts.loader(cfg, data, torch.device("cpu")):
        boxes = batch.objects.boxes[~batch.objects.ignore]
        found.append((boxes[:, 2:] - boxes[:, :2]).numpy())
    return np.concatenate(found)


def priors(sizes: np.ndarray, k: int, seed: int = 0) -> Priors:
    """The k priors of the sizes [N, 2], the same for the same seed.

    Raises:
        UserError: fewer different sizes than priors.
    """
    sizes = np.asarray(sizes, np.float64)
    different = len(np.unique(sizes, axis=0))
    if not 1 <= k <= different:
        raise UserError(f"k={k}: expected 1 to {different}, the number of different sizes of boxes")
    centres = cluster(sizes, start(sizes, k, np.random.default_rng(seed)))
    centres = centres[np.argsort(centres.prod(1))]
    mean = float(overlaps(sizes, centres).max(1).mean())
    cells = (centres / STRIDE).round(4).tolist()
    return Priors(len(sizes), mean, centres.round(1).tolist(), cells)


def overlaps(sizes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """IoU [N, k] of boxes of these (width, height) on one centre."""
    both = np.minimum(sizes[:, None], centres).prod(-1)
    return both / (sizes.prod(1)[:, None] + centres.prod(1) - both)


def start(sizes: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Sizes [k, 2] far from each other: each drawn by its squared distance from those before it.

    k-means++ (Arthur and Vassilvitskii, 2007, 2.2).
    """
    centres = sizes[rng.integers(len(sizes))][None]
    while len(centres) < k:
        far = (1 - overlaps(sizes, centres).max(1)).clip(0) ** 2
        drawn = rng.choice(len(sizes), p=far / far.sum())
        centres = np.vstack([centres, sizes[drawn]])
    return centres


def cluster(sizes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Move the centres [k, 2] to the mean size of what is nearest to them until nothing changes."""
    k, nearest = len(centres), np.full(len(sizes), -1)
    for _ in range(ROUNDS):
        before, nearest = nearest, overlaps(sizes, centres).argmax(1)
        if (before == nearest).all():
            break
        count = np.bincount(nearest, minlength=k)[:, None]
        total = np.stack([np.bincount(nearest, side, minlength=k) for side in sizes.T], 1)
        centres = np.where(count > 0, total / count.clip(1), centres)
    return centres


if __name__ == "__main__":
    main()
