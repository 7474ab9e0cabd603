"""What is drawn for a training image: a view, made by one warp, and colours on the small image.

All draws come from the generator of the sample, in a fixed order; what is set to nothing draws
nothing, apart from the view, the colours and the blot, which always draw.
"""

import math
from collections.abc import Sequence

import numpy as np

from engine.data import colour
from engine.data.overlap_crop import overlap_crop
from engine.data.view import View, centre_crop
from engine.errors import UserError, did_you_mean

IMAGENET_RESIZE = 256 / 224
FITS = ("squeeze", "letterbox", "crop")


class Augment:
    """Random views and colours for training; `fit` alone is how every image reaches the network.

    Args:
        fit: "squeeze" stretches the image onto the network's input, "letterbox" keeps its shape
            and pads, "crop" keeps its shape and sees the centre (training: any part) of it.
        resize: with "crop", the short side before the cut, in sides of the network's input; None
            is ImageNet's 256 / 224.
        interpolation: with "crop", "bilinear" or "bicubic", both with antialiasing; None is
            bilinear.
        flip, flip_vertical: probabilities.
        scale: the view's side as a share of the image's, drawn uniformly; below 1 crops, above 1
            zooms out.
        aspect: largest ratio by which the view is stretched.
        rotate: degrees, either way; boxes grow to hold their rotated selves.
        zoom_out: probability of a view up to `zoom_most` times as wide and high around the image.
        overlaps: minimum overlaps of SSD's crop, one is drawn (`engine.data.overlap_crop`); none
            for no such crop.
        brightness: largest change, as a share of white; contrast, saturation: largest relative
            change; hue: largest turn in degrees.
        colour: probability of each of these four.
        swap: probability that the channels change places.
        blur, noise: probabilities of a filter, one of `blurs` (`engine.data.colour.BLURS`), and of
            salt and pepper.
        erase: probability that a rectangle of 2 to 33 % of the view is blotted out.
        mosaic, mixup, cutmix: probabilities, see `engine.data.mix`; mixup_alpha, cutmix_alpha: of
            the Beta distribution of the first image's share.
        min_visible: an object is trained on when this share of its box stays in view; below, it is
            ignored where a part is still seen.
        centre: an object whose middle is out of view is gone.
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
        zoom_out: float = 0.0,
        zoom_most: float = 4.0,
        overlaps: Sequence[float] = (),
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        colour: float = 1.0,
        swap: float = 0.0,
        blur: float = 0.0,
        blurs: Sequence[str] = ("gaussian",),
        noise: float = 0.0,
        erase: float = 0.0,
        mosaic: float = 0.0,
        mixup: float = 0.0,
        mixup_alpha: float = 0.2,
        cutmix: float = 0.0,
        cutmix_alpha: float = 1.0,
        min_visible: float = 0.3,
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

    def full_view(self, size: tuple[int, int], target: tuple[int, int]) -> View:
        """The whole image of (height, width), as evaluation and prediction see it."""
        height, width = size
        if self.fit == "crop":
            return centre_crop(size, target, self.resize)
        if self.fit == "letterbox":
            pixel = max(height / target[0], width / target[1])
            return View(width / 2, height / 2, pixel * target[1], pixel * target[0])
        return View(width / 2, height / 2, width, height)

    def random_view(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        target: tuple[int, int],
        boxes: np.ndarray | None = None,
    ) -> View:
        """A view drawn by the settings; in the image where smaller, around it where larger.

        `boxes` [M, 4] of the original image are what `overlaps` looks at.
        """
        view = self.full_view(size, target)
        if self.fit == "crop":  # any part, nowhere beyond the image
            view = View(size[1] / 2, size[0] / 2, size[1], size[0])
        width, height = self._shape(rng, view, target)
        shares = width / view.width, height / view.height
        view = view.part(shares, rng.uniform(-1, 1, 2))
        angle = rng.uniform(-1, 1) * self.rotate
        flip_x, flip_y = rng.random(2)
        if self.zoom_out and rng.random() < self.zoom_out:
            larger = rng.uniform(1, self.zoom_most)
            view = view.part((larger, larger), rng.uniform(-1, 1, 2))
        if len(self.overlaps) and boxes is not None:
            view = overlap_crop(rng, view, boxes, self.overlaps)
        flips = bool(flip_x < self.flip), bool(flip_y < self.flip_vertical)
        return View(*view[:4], angle, *flips)

    def _shape(
        self, rng: np.random.Generator, whole: View, target: tuple[int, int]
    ) -> tuple[float, float]:
        """Width and height of the drawn part of the whole view, larger than it to zoom out."""
        side = rng.uniform(self.scale[0], self.scale[1])
        stretch = math.exp(rng.uniform(-1, 1) * math.log(self.aspect) / 2)
        if self.fit != "crop":
            return whole.width * side * stretch, whole.height * side / stretch
        pixel = min(whole.width / target[1], whole.height / target[0])
        width, height = target[1] * pixel * side * stretch, target[0] * pixel * side / stretch
        return min(width, whole.width), min(height, whole.height)

    def random_colour(self, rng: np.random.Generator) -> np.ndarray:
        """An affine map of colours [3, 4], RGB in 0..255."""
        most = np.array([self.contrast, self.saturation, self.brightness, self.hue])
        contrast, saturation, brightness, hue = rng.uniform(-1, 1, 4) * most * self._which(rng)
        matrix = colour.colour_matrix(
            brightness=brightness, contrast=contrast, saturation=saturation, hue=hue
        )
        if self.swap and rng.random() < self.swap:
            matrix = matrix[rng.permutation(3)]
        return matrix

    def _which(self, rng: np.random.Generator) -> np.ndarray | float:
        """Which of the four colour changes are made."""
        return rng.random(4) < self.colour if self.colour < 1 else 1.0

    def paint(self, rng: np.random.Generator, image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """[H, W, 3] in other colours by their map, filtered, with noise and a blot, as drawn."""
        image = colour.recolour(image, matrix)
        if self.blur and rng.random() < self.blur:
            image = colour.BLURS[str(rng.choice(list(self.blurs)))](image)
        if self.noise and rng.random() < self.noise:
            colour.salt_and_pepper(rng, image)
        if rng.random() < self.erase:
            colour.blot(rng, image)
        return image

    def check_boxes(self, there: bool) -> None:
        """Refuse what needs boxes where there are none, and what cannot have them."""
        for name in ("overlaps", "mosaic"):
            if getattr(self, name) and not there:
                raise UserError(
                    f"augment.{name} needs boxes, the dataset has none: say augment.{name}="
                    f"{'[]' if name == 'overlaps' else 0} or augment=imagenet"
                )
        if self.cutmix and there:
            raise UserError(
                "augment.cutmix mixes the classes of whole images, the dataset has boxes: say "
                "augment.cutmix=0; augment.mosaic is for boxes"
            )


SHARES = (
    "flip", "flip_vertical", "zoom_out", "colour", "swap", "blur", "noise", "erase", "mosaic",
    "mixup", "cutmix", "min_visible",
)  # fmt: skip


def _check(augment: Augment) -> None:
    """Refuse settings that make no sense, by name."""
    scale, blurs = list(augment.scale), list(augment.blurs)
    for name in SHARES:
        _expect(augment, name, 0 <= getattr(augment, name) <= 1, "a share in 0..1")
    for name in ("mixup_alpha", "cutmix_alpha"):
        _expect(augment, name, getattr(augment, name) > 0, "more than 0")
    for name in ("aspect", "zoom_most"):
        _expect(augment, name, getattr(augment, name) >= 1, "a ratio of at least 1")
    _expect(augment, "fit", augment.fit in FITS, "squeeze, letterbox or crop")
    _expect(augment, "resize", augment.resize >= 1, "at least 1, the cut's own side")
    known = augment.interpolation in ("bilinear", "bicubic")
    _expect(augment, "interpolation", known, "bilinear or bicubic")
    good = len(scale) == 2 and 0 < scale[0] <= scale[1]
    _expect(augment, "scale", good, "[least, most], both above 0")
    _expect(augment, "overlaps", all(0 <= x <= 1 for x in augment.overlaps), "shares in 0..1")
    unknown = [name for name in blurs if name not in colour.BLURS]
    hint = did_you_mean(unknown[0], colour.BLURS) if unknown else ""
    _expect(augment, "blurs", blurs and not unknown, f"some of {', '.join(colour.BLURS)}{hint}")


def _expect(augment: Augment, name: str, good: object, expected: str) -> None:
    value = getattr(augment, name)
    if not good:
        shown = value if isinstance(value, str | int | float) else list(value)
        raise UserError(f"augment.{name}={shown}: expected {expected}")
