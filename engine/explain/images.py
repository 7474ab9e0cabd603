"""The image that a topic is shown on: a file's, or one that is drawn here."""

import cv2
import numpy as np

from engine.data.image import read_rgb

SIDE = 480  # pixels of the longer side, at most


def read_or_draw(path: str | None) -> np.ndarray:
    """The file's pixels [H, W, 3] uint8 RGB, made smaller to `SIDE`; without a path, shapes.

    Raises:
        UserError: it is not an image.
    """
    if path is None:
        return draw_shapes()
    image = read_rgb(path)
    scale = SIDE / max(image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale,
                                               interpolation=cv2.INTER_AREA)  # fmt: skip


def draw_shapes(height: int = 160, width: int = 240) -> np.ndarray:
    """A disc, a rectangle, a triangle and thin lines on a ramp [height, width, 3]."""
    ramp = np.linspace(90, 170, width)[None, :, None].repeat(height, 0).repeat(3, 2)
    image = ramp.astype(np.uint8)
    cv2.circle(image, (width // 4, height // 2), height // 4, (220, 60, 50), -1)
    cv2.rectangle(image, (width // 2, height // 4), (width * 3 // 4, height * 2 // 3),
                  (40, 90, 200), -1)  # fmt: skip
    corners = [(width * 5 // 8, height * 5 // 6), (width - 12, height * 5 // 6),
               (width * 7 // 8, height // 3)]  # fmt: skip
    cv2.fillPoly(image, [np.array(corners)], (60, 180, 80))
    for x in range(8, width, 16):
        cv2.line(image, (x, 4), (x + 8, 24), (30, 30, 30), 1)
    return image
