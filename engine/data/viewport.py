"""The rectangle of the image plane that becomes the network's input, and warps of images.

Coordinates count from pixel edges: an image of width W spans 0..W, and so do its boxes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torchvision.transforms.functional import InterpolationMode, resize

FILL = (124, 116, 104)  # ImageNet's mean colour, RGB
Pair = Sequence[float] | np.ndarray

LARGER = 4 / 3  # largest factor by which an image that was decoded smaller is enlarged again
ALIASES = 1.5  # reduction from which bilinear sampling needs a blur first
SHARP = 1.2  # reduction of a side up to which the blur's neighbours round to 0 / 256
WHOLE = 1e-4  # pixels by which an edge may differ from a whole number


class Viewport(NamedTuple):
    """The rectangle that becomes the network's input, in pixels of the original image."""

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
        c, s = self._turn()
        a, b, d, e = sx * c, -sx * s, sy * s, sy * c
        shift_x = width / 2 - a * self.x - b * self.y
        shift_y = height / 2 - d * self.x - e * self.y
        return np.array([[a, b, shift_x], [d, e, shift_y]])

    def reduce(self, size: tuple[int, int]) -> int:
        """The factor 1, 2, 4 or 8 by which the image may be decoded smaller for this input size.

        It may then be enlarged again by up to `LARGER`, which blurs hardly more than reducing the
        full image does.
        """
        shrink = min(self.width / size[1], self.height / size[0])
        return next((factor for factor in (8, 4, 2) if factor <= shrink * LARGER), 1)

    def snap(self, image: tuple[int, int], size: tuple[int, int], step: int = 1) -> "Viewport":
        """The viewport moved so that edges of image pixels fall on edges of input pixels.

        A resize can then make it, three times faster than a warp; a rotated viewport is unchanged.

        `image` and `size` are the (height, width) of the original and of the network's input;
        `step` is the factor by which the image is decoded smaller, see `reduce`.
        """
        if self.angle:
            return self
        x, width = _snap(self.x, self.width, image[1], size[1], step)
        y, height = _snap(self.y, self.height, image[0], size[0], step)
        return self._replace(x=x, y=y, width=width, height=height)

    def part(self, shares: Pair, place: Pair) -> "Viewport":
        """A part of (width, height) `shares` of this one, at (x, y) `place`, -1..1 edge to edge."""
        width, height = self.width * shares[0], self.height * shares[1]
        dx = place[0] * (self.width - width) / 2
        dy = place[1] * (self.height - height) / 2
        c, s = self._turn()
        x, y = self.x + c * dx + s * dy, self.y - s * dx + c * dy
        return self._replace(x=x, y=y, width=width, height=height)

    def _turn(self) -> tuple[float, float]:
        return math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))


def _snap(middle: float, side: float, length: int, pixels: int, step: int) -> tuple[float, float]:
    """Snapped centre and side along one axis, for `length` image pixels and `pixels` input ones."""
    edge, scale = middle - side / 2, pixels / side
    length = -(-length // step) * step  # the last decoded pixel may reach over the edge
    low, high = max(edge, 0), min(edge + side, length)
    if low >= high:  # nothing of the image is in view
        return middle, side
    first = min(round(low / step), length // step - 1)
    last = max(round(high / step), first + 1)
    start = min(round((low - edge) * scale), pixels - 1)
    stop = max(round((high - edge) * scale), start + 1)
    side = pixels * (last - first) * step / (stop - start)
    return first * step + side * (0.5 - start / pixels), side


def centre_crop(size: tuple[int, int], target: tuple[int, int], resize: float) -> Viewport:
    """The viewport of torchvision's classification presets, to the pixel.

    They resize the image of (height, width) `size` so that its short side is `resize` times the
    target's, in whole pixels, and crop the target from its centre.
    """
    scale = resize * max(target[0] / size[0], target[1] / size[1])
    reduced = [int(side * scale + 1e-6) for side in size]
    top, left = (round((r - t) / 2) for r, t in zip(reduced, target, strict=True))
    sy, sx = size[0] / reduced[0], size[1] / reduced[1]
    x, y = (left + target[1] / 2) * sx, (top + target[0] / 2) * sy
    return Viewport(x, y, target[1] * sx, target[0] * sy)


def cut(
    image: np.ndarray, viewport: Viewport, size: tuple[int, int], interpolation: str
) -> np.ndarray:
    """The part of `image` [h, w, 3] that `centre_crop` gave, resampled as torchvision does."""
    sx, sy = size[1] / viewport.width, size[0] / viewport.height
    reduced = [round(image.shape[0] * sy), round(image.shape[1] * sx)]
    pixels = torch.from_numpy(image).permute(2, 0, 1)  # [3, h, w]
    pixels = resize(pixels, reduced, InterpolationMode(interpolation), antialias=True)
    top, left = round(viewport.y * sy - size[0] / 2), round(viewport.x * sx - size[1] / 2)
    return pixels[:, top : top + size[0], left : left + size[1]].permute(1, 2, 0).numpy()


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` [h, w, 3] under the affine map to (height, width), filled with the mean colour.

    Before a reduction the image is shrunk by a whole factor (area mean) and blurred for the
    remaining one, since bilinear sampling reads only four pixels and would alias.
    """
    (sx, turn_x, shift_x), (turn_y, sy, shift_y) = matrix.tolist()
    if turn_x == turn_y == 0:
        columns = _Span.find(sx, shift_x, image.shape[1], size[1])
        rows = _Span.find(sy, shift_y, image.shape[0], size[0])
        if rows and columns:
            return _resize(image, rows, columns, size)
    shrink = int(1 / np.linalg.norm(matrix[:, :2], axis=0).max())
    if shrink >= 2:
        height, width = image.shape[:2]
        image = _shrink(image, shrink)
        matrix = matrix * (width / image.shape[1], height / image.shape[0], 1)
    image = _soften(image, *(1 / np.linalg.norm(matrix[:, :2], axis=0)))
    # OpenCV counts from pixel centres, this map from edges.
    linear, offset = matrix[:, :2], matrix[:, 2]
    centred = np.column_stack([linear, offset + linear @ (0.5, 0.5) - 0.5])
    return cv2.warpAffine(image, centred, size[::-1], flags=cv2.INTER_LINEAR, borderValue=FILL)


class _Span(NamedTuple):
    """Along one axis: image pixels first:last, whole ones, become input pixels start:stop."""

    first: int
    last: int
    start: int
    stop: int
    flip: bool

    @classmethod
    def find(cls, scale: float, shift: float, length: int, pixels: int) -> "_Span | None":
        """The span of an axis of an upright map; None if edges are not whole or none is in view."""
        one, other = sorted((-shift / scale, (pixels - shift) / scale))
        low, high = max(one, 0), min(other, length)
        left, right = sorted((scale * low + shift, scale * high + shift))
        first, last, start, stop = round(low), round(high), round(left), round(right)
        off = max(abs(low - first), abs(high - last), abs(left - start), abs(right - stop))
        if off >= WHOLE or low >= high or start >= stop:
            return None
        return cls(first, last, start, stop, scale < 0)


def _resize(image: np.ndarray, rows: _Span, columns: _Span, size: tuple[int, int]) -> np.ndarray:
    part = image[rows.first : rows.last, columns.first : columns.last]
    height, width = rows.stop - rows.start, columns.stop - columns.start
    shrink = min(part.shape[0] // height, part.shape[1] // width)
    if shrink >= 2:
        part = _shrink(part, shrink)
    part = _soften(part, part.shape[1] / width, part.shape[0] / height)
    seen = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
    if rows.flip or columns.flip:
        seen = cv2.flip(seen, -1 if rows.flip and columns.flip else int(columns.flip))
    if (height, width) == size:
        return seen
    below, right = size[0] - rows.stop, size[1] - columns.stop
    border = (rows.start, below, columns.start, right)
    return cv2.copyMakeBorder(seen, *border, cv2.BORDER_CONSTANT, value=FILL)


def _soften(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """The image blurred against aliasing, to be sampled bilinearly at every `x` and `y` pixels.

    The antialiasing filter is a triangle of variance x² / 6; bilinear sampling itself gives 1 / 6.
    """
    if max(x, y) < ALIASES:
        return image
    across, down = (math.sqrt(max(r * r - 1, 0.01) / 6) for r in (x, y))
    window = 3 if x > SHARP else 1, 3 if y > SHARP else 1
    return cv2.GaussianBlur(image, window, sigmaX=across, sigmaY=down)


def _shrink(image: np.ndarray, by: int) -> np.ndarray:
    height, width = image.shape[:2]
    small = (max(width // by, 1), max(height // by, 1))
    return cv2.resize(image, small, interpolation=cv2.INTER_AREA)
