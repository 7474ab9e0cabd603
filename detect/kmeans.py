"""Anchors from a dataset: python -m detect.kmeans dataset=voc dataset.root=FOLDER k=9.

Clusters the sizes of the boxes by k-means with the distance 1 - IoU (arXiv 1612.08242, 2), in the
network's input, after `augment.fit` to `image_size`. Ignored objects are left out.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from hydra.core.config_store import ConfigStore

from detect.priors import STRIDE, Priors, priors
from engine.cli import command
from engine.config.schema import TrainConfig
from engine.console import echo
from engine.errors import UserError, did_you_mean

FORMATS = ("text", "json")


@dataclass
class KMeans(TrainConfig):
    """Options of `python -m detect.kmeans`."""

    k: int = 9  # priors to find
    split: str = "train"  # whose boxes are clustered
    format: str = "text"  # text or json


ConfigStore.instance().store(name="kmeans_schema", node=KMeans)


@command("kmeans")
def main(cfg: Any) -> None:
    """Print the priors of the configured dataset, as text or one JSON document."""
    if cfg.format not in FORMATS:
        hint = did_you_mean(cfg.format, FORMATS)
        raise UserError(f"format={cfg.format}: expected {' or '.join(FORMATS)}{hint}")
    if cfg.image_size == "auto":
        raise UserError("image_size=auto: set the size of the network's input: image_size=416")
    found = priors(box_sizes(cfg), cfg.k, cfg.seed)
    text = priors_text(found) if cfg.format == "text" else json.dumps(found._asdict(), indent=1)
    echo(*text.split("\n"))


def priors_text(found: Priors) -> str:
    """The priors as text, in lists that `head.anchors` takes."""
    return (
        f"{len(found.pixels)} priors of {found.boxes} boxes, mean IoU {found.mean_iou:.4f}\n"
        f"pixels of the input: {found.pixels}\n"
        f"cells of {STRIDE} pixels (head=yolo_v2): {found.cells}"
    )


def box_sizes(cfg: Any) -> np.ndarray:
    """(width, height) [N, 2] of the split's boxes in pixels of the network's input."""
    import torch  # slow to import: not for a wrong option

    from engine.builders import judged_parts, parts

    data = judged_parts.dataset(cfg, cfg.split)
    sizes = [np.zeros((0, 2), np.float32)]
    for batch in parts.loader(cfg, data, torch.device("cpu")):
        boxes = batch.objects.boxes[~batch.objects.ignore]
        sizes.append((boxes[:, 2:] - boxes[:, :2]).numpy())
    return np.concatenate(sizes)


if __name__ == "__main__":
    main()
