"""Random augmentation: a viewport, applied by one warp, then colour changes on the small image.

All random numbers come from the sample's generator, in a fixed order. A setting that is off draws
no number, except those of the viewport, the colours and random erasing, which always draw.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from engine.config.ranges import Range, Share
from engine.data import colour
from engine.data.overlap_crop import overlap_crop
from engine.data.viewport import Viewport, centre_crop
from engine.errors import UserError, did_you_mean

Times = Annotated[float, Range(1, 100)]
Angle = Annotated[float, Range(0, 180)]  # degrees either way
Alpha = Annotated[float, Range(0.001, 1000)]
Side = Annotated[float, Range(0.01, 100)]  # of the viewport, in sides of the image

IMAGENET_RESIZE = 256 / 224
FITS = ("squeeze", "letterbox", "crop")


class Augment:
    """Random geometry and colours for training; evaluation and prediction use `fit` alone.

    Args:
        fit: "squeeze" stretches the image to the network's input, "letterbox" keeps its aspect
            ratio and pads, "crop" keeps it and takes the centre (in training a random part, where
            any geometry is random).
        resize: with "crop", the image's short side before cropping, as a multiple of the network's
            input side; None is ImageNet's 256 / 224.
        interpolation: with "crop", "bilinear" or "bicubic", both with antialiasing; None is
            bilinear.
        flip, flip_vertical: probabilities.
        scale: [least, most] side of the viewport, as a share of the image's, drawn uniformly;
            below 1 crops, above 1 zooms out.
        aspect: largest ratio by which the viewport is stretched.
        rotate: largest angle either way, degrees; boxes grow to enclose the rotated ones.
        zoom_out: probability of a viewport up to `zoom_most` times as wide and high as the image.
        overlaps: minimum IoUs of SSD's crop, one is drawn per image (`engine.data.overlap_crop`);
            empty for no such crop.
        brightness: largest change, as a share of white; contrast, saturation: largest relative
            change; hue: largest turn in degrees.
        colour: probability of each of these four.
        swap: probability that the channels are permuted.
        blur, noise: probabilities of a filter, one of `blurs` (`engine.data.colour.BLURS`), and of
            salt-and-pepper noise.
        erase: probability that a rectangle of 2 to 33 % of the input is erased.
        mosaic, mixup, cutmix: probabilities, see `engine.data.mix`; mixup_alpha, cutmix_alpha: of
            the Beta distribution of the first image's share.
        min_visible: an object of whose box a smaller share stays in view is ignored.
        centre: drop an object whose centre is out of view.
    """

    def __init__(
        self,
        *,
        fit: str = "squeeze",
        resize: Times | None = None,
        interpolation: str | None = None,
        flip: Share = 0.0,
        flip_vertical: Share = 0.0,
        scale: tuple[Side, Side] = (1.0, 1.0),
        aspect: Times = 1.0,
        rotate: Angle = 0.0,
        zoom_out: Share = 0.0,
        zoom_most: Times = 4.0,
        overlaps: Sequence[Share] = (),
        brightness: Share = 0.0,
        contrast: Share = 0.0,
        saturation: Share = 0.0,
        hue: Angle = 0.0,
        colour: Share = 1.0,
        swap: Share = 0.0,
        blur: Share = 0.0,
        blurs: Sequence[str] = ("gaussian",),
        noise: Share = 0.0,
        erase: Share = 0.0,
        mosaic: Share = 0.0,
        mixup: Share = 0.0,
        mixup_alpha: Alpha = 0.2,
        cutmix: Share = 0.0,
        cutmix_alpha: Alpha = 1.0,
        min_visible: Share = 0.3,
        centre: bool = False,
    ) -> None:
        self.fit, self.flip, self.flip_vertical = fit, flip, flip_vertical
        self.resize = IMAGENET_RESIZE if resize is None else resize
        self.interpolation = interpolation or "bilinear"
        self.scale, self.aspect, self.rotate = scale, aspect, rotate
        self.zoom_out, self.zoom_most, self.overlaps = zoom_out, zoom_most, tuple(overlaps)
        self.brightness, self.contrast = brightness, contrast
        self.saturation, self.hue, self.colour, self.swap = saturation, hue, colour, swap
        self.blur, self.blurs, self.noise, self.erase = blur, blurs, noise, erase
        self.mosaic, self.mixup, self.mixup_alpha = mosaic, mixup, mixup_alpha
        self.cutmix, self.cutmix_alpha = cutmix, cutmix_alpha
        self.min_visible, self.centre = min_visible, centre
        _check(self)

    def full_viewport(self, size: tuple[int, int], target: tuple[int, int]) -> Viewport:
        """The viewport of evaluation and prediction, for an image of (height, width) `size`.

        `target` is the (height, width) of the network's input, here and below.
        """
        height, width = size
        if self.fit == "crop":
            return centre_crop(size, target, self.resize)
        if self.fit == "letterbox":
            pixel = max(height / target[0], width / target[1])
            return Viewport(width / 2, height / 2, pixel * target[1], pixel * target[0])
        return Viewport(width / 2, height / 2, width, height)

    def random_viewport(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        target: tuple[int, int],
        boxes: np.ndarray | None = None,
    ) -> Viewport:
        """A random viewport: inside the image where it is smaller, around it where larger.

        `boxes` [M, 4], xyxy in pixels of the original image, are needed for `overlaps` alone.
        """
        viewport = self.full_viewport(size, target)
        if self.fit == "crop" and not self._moves():
            return viewport
        if self.fit == "crop":  # any part, but never beyond the image
            viewport = Viewport(size[1] / 2, size[0] / 2, size[1], size[0])
        side, stretch, x, y, angle, flip_x, flip_y = rng.random(7).tolist()
        width, height = self._shape(side, stretch, viewport, target)
        shares = width / viewport.width, height / viewport.height
        viewport = viewport.part(shares, (_either_way(x), _either_way(y)))
        angle = _either_way(angle) * self.rotate
        if self.zoom_out and rng.random() < self.zoom_out:
            larger, x, y = rng.random(3).tolist()
            larger = 1 + (self.zoom_most - 1) * larger
            viewport = viewport.part((larger, larger), (_either_way(x), _either_way(y)))
        if len(self.overlaps) and boxes is not None:
            viewport = overlap_crop(rng, viewport, boxes, self.overlaps)
        flips = bool(flip_x < self.flip), bool(flip_y < self.flip_vertical)
        return Viewport(*viewport[:4], angle, *flips)

    def _moves(self) -> bool:
        """Whether any geometry is random."""
        zooms = tuple(self.scale) != (1, 1) or self.aspect != 1 or self.zoom_out or self.overlaps
        return bool(zooms or self.rotate or self.flip or self.flip_vertical)

    def _shape(
        self, side: float, stretch: float, whole: Viewport, target: tuple[int, int]
    ) -> tuple[float, float]:
        """Width and height of a part of the viewport `whole`; larger than it zooms out.

        `side` and `stretch` are draws in 0..1.
        """
        side = self.scale[0] + (self.scale[1] - self.scale[0]) * side
        stretch = math.exp(_either_way(stretch) * math.log(self.aspect) / 2)
        if self.fit != "crop":
            return whole.width * side * stretch, whole.height * side / stretch
        pixel = min(whole.width / target[1], whole.height / target[0])
        width, height = target[1] * pixel * side * stretch, target[0] * pixel * side / stretch
        return min(width, whole.width), min(height, whole.height)

    def random_colour(self, rng: np.random.Generator) -> np.ndarray:
        """A random affine map of colours [3, 4], for RGB in 0..255."""
        draws = rng.uniform(-1, 1, 4).tolist()
        if self.colour < 1:
            chosen = rng.random(4).tolist()
            draws = [d if c < self.colour else 0.0 for d, c in zip(draws, chosen, strict=True)]
        matrix = colour.colour_matrix(
            contrast=draws[0] * self.contrast,
            saturation=draws[1] * self.saturation,
            brightness=draws[2] * self.brightness,
            hue=draws[3] * self.hue,
        )
        if self.swap and rng.random() < self.swap:
            matrix = matrix[rng.permutation(3)]
        return matrix

    def paint(self, rng: np.random.Generator, image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """[H, W, 3] after the colour map [3, 4], then random blur, noise and erasing."""
        image = colour.recolour(image, matrix)
        if self.blur and rng.random() < self.blur:
            image = colour.BLURS[str(rng.choice(list(self.blurs)))](image)
        if self.noise and rng.random() < self.noise:
            colour.salt_and_pepper(rng, image)
        if rng.random() < self.erase:
            colour.blot(rng, image)
        return image

    def check_boxes(self, has_boxes: bool) -> None:
        """UserError where a setting needs boxes and the dataset has none, or cannot have them."""
        for name in ("overlaps", "mosaic"):
            if getattr(self, name) and not has_boxes:
                raise UserError(
                    f"augment.{name} needs boxes, the dataset has none: set augment.{name}="
                    f"{'[]' if name == 'overlaps' else 0} or augment=imagenet"
                )


SHARES = (
    "flip", "flip_vertical", "zoom_out", "colour", "swap", "blur", "noise", "erase", "mosaic",
    "mixup", "cutmix", "min_visible",
)  # fmt: skip


def _either_way(draw: float) -> float:
    """A draw in 0..1 as one in -1..1, to the bit as `Generator.uniform` makes it."""
    return -1 + 2 * draw


def _check(augment: Augment) -> None:
    """UserError that names the first setting out of its range."""
    scale, blurs = list(augment.scale), list(augment.blurs)
    for name in SHARES:
        _expect(augment, name, 0 <= getattr(augment, name) <= 1, "a share in 0..1")
    for name in ("mixup_alpha", "cutmix_alpha"):
        _expect(augment, name, getattr(augment, name) > 0, "more than 0")
    for name in ("aspect", "zoom_most"):
        _expect(augment, name, getattr(augment, name) >= 1, "a ratio of at least 1")
    _expect(augment, "fit", augment.fit in FITS, "squeeze, letterbox or crop")
    _expect(augment, "resize", augment.resize >= 1, "at least 1, the side of the crop")
    known = augment.interpolation in ("bilinear", "bicubic")
    _expect(augment, "interpolation", known, "bilinear or bicubic")
    valid = len(scale) == 2 and 0 < scale[0] <= scale[1]
    _expect(augment, "scale", valid, "[least, most], both above 0")
    _expect(augment, "overlaps", all(0 <= x <= 1 for x in augment.overlaps), "shares in 0..1")
    unknown = [name for name in blurs if name not in colour.BLURS]
    hint = did_you_mean(unknown[0], colour.BLURS) if unknown else ""
    _expect(augment, "blurs", blurs and not unknown, f"some of {', '.join(colour.BLURS)}{hint}")


def _expect(augment: Augment, name: str, valid: object, expected: str) -> None:
    value = getattr(augment, name)
    if not valid:
        shown = value if isinstance(value, str | int | float) else list(value)
        raise UserError(f"augment.{name}={shown}: expected {expected}")
