"""Changes of the pixels of the network's input: colour matrix, blur, noise, random erasing."""

import math
from collections.abc import Callable
from operator import mul

import cv2
import numpy as np

from engine.data.viewport import FILL

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
SIDE = 5  # of the filters' window, pixels
NOISE = 0.05  # largest share of pixels that noise replaces
WINDOW = np.ones((SIDE, SIDE), np.uint8)

Filter = Callable[[np.ndarray], np.ndarray]
BLURS: dict[str, Filter] = {
    "gaussian": lambda image: cv2.GaussianBlur(image, (SIDE, SIDE), 0),  # 1 4 6 4 1, over 16
    "mean": lambda image: cv2.blur(image, (SIDE, SIDE)),
    "median": lambda image: cv2.medianBlur(image, SIDE),
    "maximum": lambda image: cv2.dilate(image, WINDOW),
    "minimum": lambda image: cv2.erode(image, WINDOW),
}


def colour_matrix(
    *, brightness: float, contrast: float, saturation: float, hue: float
) -> np.ndarray:
    """The affine map of colours [3, 4], for RGB in 0..255, that makes all four changes at once.

    Brightness is a share of white, hue is in degrees, the others are relative; 0 changes nothing.
    """
    sine, cosine = math.sin(math.radians(hue)) / math.sqrt(3), math.cos(math.radians(hue))
    third = (1 - cosine) / 3
    a, b, c = cosine + third, third - sine, third + sine
    turn = (a, b, c), (c, a, b), (b, c, a)  # around the grey axis, by Rodrigues' formula
    grey = [saturation * sum(map(mul, LUMA, column)) for column in zip(*turn, strict=True)]
    shift = 255 * brightness - 128 * contrast
    return np.array(
        [
            [(1 + contrast) * ((1 + saturation) * t - g) for t, g in zip(row, grey, strict=True)]
            + [shift]
            for row in turn
        ]
    )


def recolour(image: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 after an affine map [3, 4] of its colours, clipped to 0..255."""
    return cv2.transform(image, colour)


def salt_and_pepper(rng: np.random.Generator, image: np.ndarray) -> None:
    """Make up to `NOISE` of the pixels of [H, W, 3] white or black, in place."""
    height, width = image.shape[:2]
    count = int(rng.uniform(0, NOISE) * height * width)
    image.reshape(-1, 3)[rng.integers(height * width, size=count)] = 255 * rng.integers(
        2, size=(count, 1)
    )


def blot(rng: np.random.Generator, image: np.ndarray) -> None:
    """Erase a random rectangle of [H, W, 3], 2 to 33 % of it, in place (arXiv 1708.04896, 4)."""
    height, width = image.shape[:2]
    area, ratio = rng.uniform(0.02, 0.33), np.exp(rng.uniform(-1, 1) * np.log(3.3))
    h = min(int(height * np.sqrt(area * ratio)), height)
    w = min(int(width * np.sqrt(area / ratio)), width)
    y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
    image[y : y + h, x : x + w] = FILL
