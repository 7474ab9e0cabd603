"""What a program may give a model: files, PIL images and arrays, one or many."""

from collections.abc import Iterable, Iterator
from os import PathLike, fspath
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from engine.data.files import Files
from engine.data.given import Pixels
from engine.data.source import has_frames, open_source
from engine.errors import UserError

EXPECTED = "expected a path, a PIL image or an array [height, width, 3] of uint8, RGB"
DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # PIL's modes whose values are no bytes


def is_path(x: Any) -> bool:
    """Return whether it is the text or the object of a path."""
    return isinstance(x, str | PathLike)


def is_image(x: Any) -> bool:
    """Return whether it is one image: in memory, or a file that is neither video nor folder."""
    if not is_path(x):
        return isinstance(x, Image.Image | np.ndarray)
    return Path(fspath(x)).is_file() and not has_frames(fspath(x))


def datasets(images: Iterable[Any]) -> Iterator[Files | Pixels]:
    """Yield each image as a dataset of its own, which `engine.data.given.Given` takes.

    Raises:
        UserError: it is no image, or no such file.
    """
    for place, image in enumerate(images):
        if not is_path(image):
            yield Pixels(_pixels(image), place)
        elif is_image(image):
            yield Files(source=fspath(image))
        else:
            exists = Path(fspath(image)).exists()
            why = "has several images: give it alone, not in a list" if exists else "no such file"
            raise UserError(f"{fspath(image)}: {why}")


def _pixels(image: Any) -> np.ndarray:
    """[H, W, 3] uint8 RGB; an array itself, which is not changed."""
    if isinstance(image, Image.Image):
        return _of_pil(image)
    if not isinstance(image, np.ndarray):
        kind = f"{type(image).__module__}.{type(image).__qualname__}".removeprefix("builtins.")
        hint = "; of a tensor [3, H, W]: x.permute(1, 2, 0).numpy()" if kind[:6] == "torch." else ""
        raise UserError(f"got {kind}, {EXPECTED}{hint}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        hint = ""
        if image.ndim == 2:
            hint = "; of a grey one: np.stack([x] * 3, 2)"
        elif image.ndim == 4:
            hint = "; of a batch: list(x)"
        elif image.ndim == 3 and image.shape[2] == 4:
            hint = "; without its alpha: x[..., :3]"
        elif image.ndim == 3 and image.shape[0] == 3 != image.shape[2]:
            hint = "; of one with its channels first: x.transpose(1, 2, 0)"
        elif image.dtype.kind == "f":
            hint = "; of one in 0..1: (255 * x).round().astype(np.uint8)"
        raise UserError(f"got an array {list(image.shape)} of {image.dtype}, {EXPECTED}{hint}")
    return np.ascontiguousarray(image)


def _of_pil(image: Image.Image) -> np.ndarray:
    """The upright pixels of a PIL image, transparent ones on white, as of a file."""
    if image.mode in DEEP:
        raise UserError(f"got a PIL image of mode {image.mode}, {EXPECTED}; convert it to 8 bits")
    if not all(image.size):
        raise UserError(f"got a PIL image of {image.width} x {image.height} pixels, {EXPECTED}")
    try:
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:  # of a file that PIL had only opened
        raise UserError(f"cannot read the PIL image: {error}") from error


class Frames:
    """The frames of a video or animation, read anew by who asks for one; in order is fastest."""

    def __init__(self, source: str) -> None:
        self.source, self.video, self.lock = source, None, Lock()

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        with self.lock:
            self.video = self.video or open_source(source=self.source)
            return self.video.image(index)
