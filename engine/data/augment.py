"""Augmentation as one affine warp straight to the network's size, and one colour matrix after it.

Edges, not centres: a picture of width W spans 0..W, and so do its boxes. All draws come from the
generator of the sample, in a fixed order.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torchvision.transforms.functional import InterpolationMode, resize

from engine.errors import UserError
from engine.structures import Objects

IMAGENET_RESIZE = 256 / 224
FILL = (124, 116, 104)  # ImageNet's mean colour, RGB
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


class View(NamedTuple):
    """The part of the plane that the network sees, in pixels of the original picture."""

    x: float  # centre
    y: float
    width: float
    height: float
    angle: float = 0.0  # degrees
    flip_x: bool = False
    flip_y: bool = False

    def matrix(self, size: tuple[int, int]) -> np.ndarray:
        """The affine map [2, 3] from original pixels to a network input of (height, width)."""
        height, width = size
        sx = width / self.width * (-1 if self.flip_x else 1)
        sy = height / self.height * (-1 if self.flip_y else 1)
        c, s = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        linear = np.array([[sx * c, -sx * s], [sy * s, sy * c]])
        offset = np.array([width / 2, height / 2]) - linear @ (self.x, self.y)
        return np.column_stack([linear, offset])


class Augment:
    """Random views and colours for training; `fit` alone is how every picture reaches the network.

    Args:
        fit: "squeeze" stretches the picture onto the network's input, "letterbox" keeps its shape
            and pads, "crop" keeps its shape and sees the centre (training: any part) of it.
        resize: with "crop", the short side before the cut, in sides of the network's input; None
            is ImageNet's 256 / 224.
        interpolation: with "crop", "bilinear" or "bicubic", both with antialiasing; None is
            bilinear.
        flip, flip_vertical: probabilities.
        scale: the view's side as a share of the picture's, drawn uniformly; below 1 crops, above 1
            zooms out.
        aspect: largest ratio by which the view is stretched.
        rotate: degrees, either way; boxes grow to hold their rotated selves.
        brightness: largest change, as a share of white; contrast, saturation: largest relative
            change; hue: largest turn in degrees.
        erase: probability that a rectangle of 2 to 33 % of the view is blotted out
            (arXiv 1708.04896, 4).
        min_visible: an object is trained on when this share of its box stays in view; below, it is
            ignored where a part is still seen.
    """

    def __init__(
        self,
        *,
        fit: str = "squeeze",
        resize: float | None = None,
        interpolation: str | None = None,
        flip: float = 0.0,
        flip_vertical: float = 0.0,
        scale: Sequence[float] = (1.0, 1.0),
        aspect: float = 1.0,
        rotate: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        erase: float = 0.0,
        min_visible: float = 0.3,
    ) -> None:
        if fit not in ("squeeze", "letterbox", "crop"):
            raise UserError(f"augment.fit={fit}: expected squeeze, letterbox or crop")
        if resize is not None and resize < 1:
            raise UserError(f"augment.resize={resize}: expected at least 1, the cut's own side")
        if interpolation not in (None, "bilinear", "bicubic"):
            raise UserError(f"augment.interpolation={interpolation}: expected bilinear or bicubic")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise UserError(f"augment.scale={list(scale)}: expected [least, most], both above 0")
        shares = {"flip": flip, "flip_vertical": flip_vertical, "erase": erase}
        shares["min_visible"] = min_visible
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise UserError(f"augment.{name}={share}: expected a share in 0..1")
        if aspect < 1:
            raise UserError(f"augment.aspect={aspect}: expected a ratio of at least 1")
        self.fit, self.flip, self.flip_vertical = fit, flip, flip_vertical
        self.resize, self.interpolation = resize or IMAGENET_RESIZE, interpolation or "bilinear"
        self.scale, self.aspect, self.rotate = scale, aspect, rotate
        self.brightness, self.contrast = brightness, contrast
        self.saturation, self.hue, self.erase = saturation, hue, erase
        self.min_visible = min_visible

    def full_view(self, size: tuple[int, int], target: tuple[int, int]) -> View:
        """The whole picture of (height, width), as evaluation and prediction see it."""
        height, width = size
        if self.fit == "crop":
            return centre_crop(size, target, self.resize)
        if self.fit == "letterbox":
            pixel = max(height / target[0], width / target[1])
            return View(width / 2, height / 2, pixel * target[1], pixel * target[0])
        return View(width / 2, height / 2, width, height)

    def random_view(
        self, rng: np.random.Generator, size: tuple[int, int], target: tuple[int, int]
    ) -> View:
        """A view drawn by the settings; in the picture where smaller, around it where larger."""
        full = self.full_view(size, target)
        whole = shape = np.array([full.width, full.height])
        if self.fit == "crop":  # any part, nowhere beyond the picture
            whole = np.array(size[::-1])
            shape = np.array(target[::-1]) * min(size[0] / target[0], size[1] / target[1])
        side = rng.uniform(self.scale[0], self.scale[1])
        stretch = np.exp(rng.uniform(-1, 1) * np.log(self.aspect) / 2)
        shape = shape * side * (stretch, 1 / stretch)
        shape = np.minimum(shape, whole) if self.fit == "crop" else shape
        x, y = np.array(size[::-1]) / 2 + rng.uniform(-1, 1, 2) * (whole - shape) / 2
        angle = rng.uniform(-1, 1) * self.rotate
        flip_x, flip_y = rng.random(2) < (self.flip, self.flip_vertical)
        return View(x, y, shape[0], shape[1], angle, bool(flip_x), bool(flip_y))

    def random_colour(self, rng: np.random.Generator) -> np.ndarray:
        """An affine map of colours [3, 4], RGB in 0..255: hue, saturation, contrast, brightness."""
        contrast, saturation, brightness, hue = rng.uniform(-1, 1, 4) * (
            self.contrast,
            self.saturation,
            self.brightness,
            self.hue,
        )
        grey = np.tile(LUMA, (3, 1))
        linear = (1 + saturation) * np.eye(3) + -saturation * grey
        if hue:  # a turn around the grey axis
            turn = cv2.Rodrigues(np.radians(hue) / np.sqrt(3) * np.ones(3))[0]
            linear = linear @ turn
        linear = (1 + contrast) * linear
        offset = 255 * brightness - 128 * contrast
        return np.column_stack([linear, np.full(3, offset)])

    def blot(self, rng: np.random.Generator, image: np.ndarray) -> None:
        """Erase a random rectangle of [H, W, 3], or nothing, in place."""
        if rng.random() >= self.erase:
            return
        height, width = image.shape[:2]
        area, ratio = rng.uniform(0.02, 0.33), np.exp(rng.uniform(-1, 1) * np.log(3.3))
        h = min(int(height * np.sqrt(area * ratio)), height)
        w = min(int(width * np.sqrt(area / ratio)), width)
        y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
        image[y : y + h, x : x + w] = FILL


def centre_crop(size: tuple[int, int], target: tuple[int, int], resize: float) -> View:
    """What torchvision's presets for classification see, to the pixel.

    The picture of (height, width) `size` is reduced until its short side is `resize` times the
    target's, sides in whole pixels, and the target cut from its middle.
    """
    scale = resize * max(target[0] / size[0], target[1] / size[1])
    reduced = [int(side * scale + 1e-6) for side in size]
    top, left = (round((r - t) / 2) for r, t in zip(reduced, target, strict=True))
    sy, sx = size[0] / reduced[0], size[1] / reduced[1]
    x, y = (left + target[1] / 2) * sx, (top + target[0] / 2) * sy
    return View(x, y, target[1] * sx, target[0] * sy)


def cut(image: np.ndarray, view: View, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """`image` [h, w, 3] seen by `centre_crop`, resampled as torchvision does."""
    sx, sy = size[1] / view.width, size[0] / view.height
    reduced = [round(image.shape[0] * sy), round(image.shape[1] * sx)]
    pixels = torch.from_numpy(image).permute(2, 0, 1)  # [3, h, w]
    pixels = resize(pixels, reduced, InterpolationMode(interpolation), antialias=True)
    top, left = round(view.y * sy - size[0] / 2), round(view.x * sx - size[1] / 2)
    return pixels[:, top : top + size[0], left : left + size[1]].permute(1, 2, 0).numpy()


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` [h, w, 3] under the affine map to (height, width); outside it the mean colour.

    Strong reductions first shrink by a whole factor over areas, since the warp samples only four
    pixels and would alias.
    """
    shrink = int(1 / max(np.linalg.norm(matrix[:, 0]), np.linalg.norm(matrix[:, 1])))
    if shrink >= 2:
        height, width = image.shape[:2]
        small = (max(width // shrink, 1), max(height // shrink, 1))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        matrix = matrix * (width / small[0], height / small[1], 1)
    # OpenCV counts from pixel centres, we from edges.
    linear, offset = matrix[:, :2], matrix[:, 2]
    centred = np.column_stack([linear, offset + linear @ (0.5, 0.5) - 0.5])
    return cv2.warpAffine(image, centred, size[::-1], flags=cv2.INTER_LINEAR, borderValue=FILL)


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The upright hulls [M, 4] of boxes [M, 4] under the affine map."""
    x1, y1, x2, y2 = boxes.T
    corners = np.stack([[x1, x2, x2, x1], [y1, y1, y2, y2]], 1)  # [4, 2, M]
    moved = matrix[:, :2] @ corners + matrix[:, 2:]  # [4, 2, M]
    return np.concatenate([moved.min(0), moved.max(0)]).T


def warp_objects(
    objects: Objects, matrix: np.ndarray, size: tuple[int, int], min_visible: float
) -> Objects:
    """One picture's objects under the map: clipped to (height, width), the hidden ignored."""
    boxes = warp_boxes(objects.boxes.double().numpy(), matrix)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], 1)
    clipped = boxes.clip(0, np.tile(size[::-1], 2))
    seen = np.prod(clipped[:, 2:] - clipped[:, :2], 1)
    hidden = torch.from_numpy(seen < min_visible * area)
    moved = replace(
        objects,
        boxes=torch.from_numpy(clipped.astype(np.float32)),
        ignore=objects.ignore | hidden,
        area=torch.from_numpy(seen.astype(np.float32)),
    )
    return moved.select(torch.from_numpy(seen > 0))


def recolour(image: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 under an affine map [3, 4] of its colours, saturating."""
    return cv2.transform(image, colour)
