"""`train.py` with plain preprocessing: decode in full, crop, resize with antialiasing, flip.

    python tests/plain.py experiment=bccd_pretrained backbone.weights=FILE dataset.root=FOLDER

The random numbers are those of `train.py`; only the pixels differ. It shows the accuracy that the
fused warp loses by decoding at reduced size, rounding crops to whole pixels and interpolating
between four of them.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

ROOT = Path(__file__).resolve().parents[1]


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Do what `engine.data.viewport.warp` does, in separate steps; for maps without rotation."""
    from engine.data.viewport import FILL

    assert matrix[0, 1] == matrix[1, 0] == 0, "no rotation here"
    ends = [(np.array([0, n]) - matrix[i, 2]) / matrix[i, i] for i, n in enumerate(size[::-1])]
    (left, right), (top, bottom) = (np.sort(np.round(e)).astype(int) for e in ends)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)  # [3, h, w]
    room = [max(0, -left), max(0, -top), max(0, right - image.shape[1]),
            max(0, bottom - image.shape[0])]  # fmt: skip
    pixels = F.pad(pixels, room, fill=list(FILL))
    pixels = F.crop(pixels, top + room[1], left + room[0], bottom - top, right - left)
    pixels = F.resize(pixels, list(size), antialias=True)
    pixels = F.horizontal_flip(pixels) if matrix[0, 0] < 0 else pixels
    pixels = F.vertical_flip(pixels) if matrix[1, 1] < 0 else pixels
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def main() -> None:
    """Replace the fused warp by the plain one, and train."""
    sys.path.insert(0, str(ROOT))
    from engine.commands import train
    from engine.data import samples, viewport

    samples.warp = warp
    viewport.Viewport.snap = lambda self, *_: self  # type: ignore[method-assign]
    viewport.Viewport.reduce = lambda *_: 1  # type: ignore[method-assign]
    sys.argv[0] = "train.py"
    train()


if __name__ == "__main__":
    main()
