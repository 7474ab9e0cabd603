"""Which passes an image makes: windows of a large one, its mirror image, other input sizes."""

from collections.abc import Sequence
from itertools import product
from math import ceil
from typing import Annotated, NamedTuple

from engine.config.ranges import Range

Tile = Annotated[int, Range(32, 100_000)]  # pixels of the original image
Overlap = Annotated[float, Range(0, 0.9)]  # share of a tile's side
Window = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the original image
Size = tuple[int, int]  # height, width


class Pass(NamedTuple):
    """One pass of an image through the network."""

    window: Window  # what it sees
    size: Size  # of the network's input
    flip: bool = False  # left and right are swapped


class Passes:
    """The passes of images, the whole image as it is first.

    Args:
        sizes: of the network's input; the first is its own.
        tile: an image of a side above it is also cut into windows of `tile` x `tile` pixels.
        overlap: share of a window's side that the next one sees too, at least.
        flip: whether each window passes mirrored too.
    """

    def __init__(
        self,
        *,
        sizes: Sequence[Size],
        tile: Tile | None = None,
        overlap: Overlap = 0.2,
        flip: bool = False,
    ) -> None:
        self.sizes, self.tile, self.overlap, self.flip = list(sizes), tile, overlap, flip

    def of(self, image: Size) -> list[Pass]:
        """The passes of an image of (height, width)."""
        seen: list[Window] = [(0, 0, image[1], image[0])]
        if self.tile and max(image) > self.tile:
            seen += windows(image, tile=self.tile, overlap=self.overlap)
        flips = (False, True) if self.flip else (False,)
        return [Pass(window, *how) for window in seen for how in product(self.sizes, flips)]

    @property
    def protocol(self) -> str:
        """The passes in one line."""
        tiles = f"tiles of {self.tile} px, overlap {self.overlap:g}, and the whole image"
        views = ["flipped"] * self.flip + ["scaled"] * (len(self.sizes) > 1)
        seen = [tiles] * bool(self.tile) + [f"{' and '.join(views)} views"] * bool(views)
        return f"{', '.join(seen)}: merged, limits of detections are those of a window"


def windows(image: Size, *, tile: int, overlap: float) -> list[Window]:
    """The windows of an image of (height, width), row by row.

    They are `tile` pixels wide and high, or as the image where that is less, and begin every
    `tile` * (1 - `overlap`) pixels, rounded; the last ones are moved back to end with the image.
    """
    height, width = (min(tile, side) for side in image)
    rows, columns = (_starts(side, tile, overlap) for side in image)
    return [(x, y, x + width, y + height) for y, x in product(rows, columns)]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    stride, last = max(round(tile * (1 - overlap)), 1), max(length - tile, 0)
    return [min(i * stride, last) for i in range(ceil(last / stride) + 1)]
