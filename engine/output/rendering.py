"""Renders matplotlib's figures, whatever letters the names in them have."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def any_letters() -> Iterator[None]:
    """Inside the `with` block, a letter that the font lacks is drawn as a box without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def pixels(canvas: Any) -> np.ndarray:
    """Return what an Agg canvas shows, [H, W, 3] uint8 RGB."""
    with any_letters():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
