"""What a part can see to be wrong before it costs an hour. No import of torch here."""

from typing import NamedTuple

import numpy as np


class Finding(NamedTuple):
    """One warning of the console, on one line."""

    what: str  # is wrong, with its numbers
    change: str  # the key to change, and how


class View(NamedTuple):
    """Objects of some training images as the network sees them without random changes.

    M objects, A slots. Boxes are xyxy and may reach over the edge of their image.
    """

    size: tuple[int, int]  # (height, width) of the network's input
    boxes: np.ndarray  # [M, 4] float64, pixels of the input
    original: np.ndarray  # [M, 4] float64, pixels of the upright original
    image_size: np.ndarray  # [M, 2] (height, width) of that original
    ignore: np.ndarray  # [M] bool
    slots: np.ndarray | None = None  # [A, 4] anchors, pixels of the input; None: the head has none
    cells: np.ndarray | None = None  # [A, 2] (width, height) of a slot's grid cell
