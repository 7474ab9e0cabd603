"""Drawn images of five shapes with exact boxes: no file, no download, the same on every machine.

An image and its truth come from (seed, split, index) alone. Each shape keeps at least 60 % of its
area visible; boxes are those of the whole shape, clipped to the image, also where another shape
lies on top.
"""

from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np

from engine.config.ranges import Count, Range, Seed, Side
from engine.data import views
from engine.errors import UserError, did_you_mean
from engine.record import Record

SPLITS = ("train", "val", "test")
SMALLEST, LARGEST = 0.12, 0.45  # longer side of a shape, share of the image's side
VISIBLE = 0.6  # share of a shape's area; it follows that no two boxes have an IoU above 0.4
EMPTY = 0.03  # share of images without a shape
TRIES = 12  # to place a shape; after these the image goes without it
# Shapes are painted this much larger and shrunk: OpenCV's own smooth polygons (LINE_AA) reach up to
# a pixel too far.
FINE = 3


def _ring(count: int, *radii: float) -> np.ndarray:
    """Corners at equal angles around 0, their radii taken in turn: [count, 2]."""
    angle = np.arange(count) * 2 * np.pi / count
    return np.stack([np.cos(angle), np.sin(angle)], 1) * np.resize(radii, count)[:, None]


def _cross() -> np.ndarray:
    """Corners of arms as long as wide: [12, 2]."""
    quarter = (3 + 1j, 1 + 1j, 1 + 3j)
    corners = np.outer(1j ** np.arange(4), quarter).ravel()
    return np.stack([corners.real, corners.imag], 1)


# Corners around 0, clockwise on the screen; all but the circle are turned at random.
OUTLINES = {
    "circle": _ring(48, 1),
    "cross": _cross(),
    "square": _ring(4, 1),
    "star": _ring(10, 1, 0.45),
    "triangle": _ring(3, 1),
}


class Shape(NamedTuple):
    """One object of an image; the later of two lies on top."""

    label: int
    corners: np.ndarray  # [P, 2] x, y in pixels; the first pixel reaches from 0 to 1
    box: np.ndarray  # [4] xyxy, of the part inside the image
    colour: np.ndarray  # [3] RGB


class Scene(NamedTuple):
    """The shapes and ground of an image, and the random state that draws the rest."""

    shapes: list[Shape]
    ground: np.ndarray  # [2, 2, 3] RGB at the corners of the image
    rng: np.random.Generator


class Shapes:
    """Circles, crosses, squares, stars and triangles over a cluttered ground.

    Args:
        split: "train", "val" or "test".
        size: side of an image, pixels.
        train, val, test: number of images in each split.
        max_objects: in an image; a few images have none, but not of view="largest".
        view: what of the truth `record` keeps, see `engine.data.views`: all, largest, multilabel.
    """

    drawn = "shapes drawn here, no images of yours"

    def __init__(
        self,
        *,
        split: str,
        size: Side = 128,
        train: Count = 1000,
        val: Count = 200,
        test: Count = 200,
        seed: Seed = 0,
        max_objects: Annotated[int, Range(1, 1000)] = 6,
        view: str = "all",
    ) -> None:
        if split not in SPLITS:
            hint = did_you_mean(split, SPLITS)
            raise UserError(f"no split '{split}' in shapes: there are {', '.join(SPLITS)}{hint}")
        counts = {"train": train, "val": val, "test": test}
        given = {"size": size, "max_objects": max_objects, "seed": seed, **counts}
        for name, got in given.items():
            least = {"size": 32, "seed": 0}.get(name, 1)
            if got < least:
                raise UserError(f"dataset.{name} is {got}, expected {least} or more")
        self.classes, self.view = list(OUTLINES), views.check_view(view)
        self.report: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self._split, self._size, self._count = split, size, counts[split]
        self._seed, self._max_objects = seed, max_objects

    def __len__(self) -> int:
        return self._count

    def record(self, index: int) -> Record:
        """The truth about one image; draws nothing."""
        shapes = self.scene(index).shapes
        whole = Record(
            id=f"{self._split}_{index:06d}",
            path=f"shapes/{self._split}/{index:06d}",
            labels=np.array([s.label for s in shapes], np.int64),
            boxes=np.array([s.box for s in shapes], np.float32).reshape(-1, 4),
            size=(self._size, self._size),
        )
        return views.apply_view(whole, self.view)

    def image(self, index: int) -> np.ndarray:
        """[size, size, 3] uint8 RGB."""
        return _draw(self.scene(index), self._size)

    def scene(self, index: int) -> Scene:
        """Shapes and ground of one image."""
        rng = np.random.default_rng((self._seed, SPLITS.index(self._split), index))
        scene = Scene([], _ground(rng), rng)
        is_empty = rng.random() < EMPTY and self.view != "largest"
        count = 0 if is_empty else rng.integers(1, self._max_objects + 1)
        spare: list[float] = []
        for _ in range(count):
            _place(scene, self._size, spare)
        return scene


def _place(scene: Scene, size: int, spare: list[float]) -> None:
    """Add a shape where enough of it and of those below stays visible, or leave it out.

    `spare` is, for each shape, how many square pixels of it may still be covered.
    """
    for _ in range(TRIES):
        label = int(scene.rng.integers(len(OUTLINES)))
        corners = _outline(scene.rng, label, size)
        inside = _clip(corners, size)
        own = _area(inside) - VISIBLE * _area(corners)
        if own < 0:
            continue
        box = np.concatenate([inside.min(0), inside.max(0)])
        # What hides a part of a shape lies in both boxes: their overlap bounds the hidden area.
        left = [s - _overlap(box, b.box) for s, b in zip(spare, scene.shapes, strict=True)]
        if min(left, default=0) >= 0:
            spare[:] = [*left, own]
            scene.shapes.append(Shape(label, corners, box.clip(0, size), _colour(scene)))
            return


def _outline(rng: np.random.Generator, label: int, size: int) -> np.ndarray:
    """Corners of a shape somewhere on the image: [P, 2] pixels."""
    name = list(OUTLINES)[label]
    angle = 0.0 if name == "circle" else rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = OUTLINES[name] @ turn
    side = size * rng.uniform(SMALLEST, LARGEST)
    corners = corners * side / np.ptp(corners, 0).max()
    return corners + size * rng.uniform(0.05, 0.95, 2)


def _clip(corners: np.ndarray, size: int) -> np.ndarray:
    """The part of a polygon inside the image (Sutherland and Hodgman 1974): [Q, 2], perhaps 0."""
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        depth = corners[:, axis] * sign + (size if sign < 0 else 0)  # > 0 inside this border
        if (depth >= 0).all():
            continue
        kept, nexts = [], np.roll(corners, -1, 0)
        for here, there, a, b in zip(corners, nexts, depth, np.roll(depth, -1), strict=True):
            if a >= 0:
                kept.append(here)
            if (a < 0) != (b < 0):
                kept.append(here + (there - here) * a / (a - b))
        corners = np.array(kept).reshape(-1, 2)
    return corners


def _area(corners: np.ndarray) -> float:
    """The area of a polygon, by the shoelace formula."""
    x, y = corners.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The area of the intersection of two boxes."""
    side = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(side.clip(0).prod())


def _rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Hue in degrees, the others in 0..1: [N, 3] RGB in 0..255."""
    hsv = np.stack([hue, saturation, value], 1).astype(np.float32)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] * 255


def _colour(scene: Scene) -> np.ndarray:
    """The one of four random colours that is farthest from all in use: clear or faint."""
    rng = scene.rng
    some = _rgb(rng.uniform(0, 360, 4), rng.uniform(0.45, 0.95, 4), rng.uniform(0.5, 1, 4))
    taken = np.stack([scene.ground.mean((0, 1)), *(s.colour for s in scene.shapes)])
    apart = np.linalg.norm(some[:, None] - taken, axis=2).min(1)  # [4]
    return some[apart.argmax()]


def _ground(rng: np.random.Generator) -> np.ndarray:
    """A dull colour, varied at each corner: [2, 2, 3] RGB."""
    base = _rgb(rng.uniform(0, 360, 1), rng.uniform(0.05, 0.4, 1), rng.uniform(0.15, 0.95, 1))
    return (base + rng.uniform(-40, 40, (4, 3))).clip(0, 255).reshape(2, 2, 3).astype(np.float32)


def _draw(scene: Scene, size: int) -> np.ndarray:
    """[size, size, 3] uint8 RGB."""
    rng = scene.rng
    # Bilinear between the corners; only the middle half is a ramp, the rest repeats the border.
    ramp = cv2.resize(scene.ground.astype(np.uint8), (2 * size, 2 * size))
    ramp = ramp[size // 2 :, size // 2 :][:size, :size]
    large = cv2.resize(ramp, None, fx=FINE, fy=FINE, interpolation=cv2.INTER_NEAREST)
    _clutter(rng, large, scene.ground.mean((0, 1)))
    for shape in scene.shapes:
        dark = shape.colour * rng.uniform(0.45, 1.0)  # a rim, which may be hard to see
        _fill(large, shape.corners, dark)
        width = np.ptp(shape.corners, 0).max() * rng.uniform(0.02, 0.06)
        _fill(large, _inset(shape.corners, width), shape.colour)
    image = cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA)
    strength = int(rng.integers(1, 13))
    noise = rng.integers(-strength, strength, image.shape, np.int8, endpoint=True)
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def _clutter(rng: np.random.Generator, image: np.ndarray, ground: np.ndarray) -> None:
    """Faint blobs, arcs and lines that look like none of the classes."""
    size = len(image)
    for _ in range(rng.integers(3, 10)):
        colour = (ground + rng.choice((-1, 1)) * rng.uniform(10, 45, 3)).clip(0, 255).tolist()
        centre, end = rng.integers(0, size, (2, 2)).tolist()
        half, thick = (size * rng.uniform((0.08, 0.006), (0.35, 0.018))).astype(int).tolist()
        angle, start = rng.uniform(0, 360, 2)
        match rng.integers(3):
            case 0:
                axes = (half, int(half * rng.uniform(0.15, 0.4)))
                cv2.ellipse(image, centre, axes, angle, 0, 360, colour, -1)
            case 1:
                stop = start + rng.uniform(50, 160)
                cv2.ellipse(image, centre, (half, half), 0, start, stop, colour, thick + 1)
            case _:
                cv2.line(image, centre, end, colour, thick + 1)


def _inset(corners: np.ndarray, width: float) -> np.ndarray:
    """A polygon, its corners counted clockwise on the screen, with every edge moved inwards."""
    edge = np.roll(corners, -1, 0) - corners  # [P, 2]
    edge /= np.linalg.norm(edge, axis=1, keepdims=True)
    after = np.stack([-edge[:, 1], edge[:, 0]], 1)  # inward normal of the edge that starts here
    before = np.roll(after, 1, 0)
    return corners + width * (before + after) / (1 + (before * after).sum(1, keepdims=True))


def _fill(large: np.ndarray, corners: np.ndarray, colour: np.ndarray) -> None:
    # OpenCV puts whole numbers at the middle of a pixel, ours lie at its edge: hence the half.
    cv2.fillPoly(large, [np.round(corners * FINE - 0.5).astype(np.int32)], colour.tolist())
