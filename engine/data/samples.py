"""The samples of a dataset, augmented for training or resized for evaluation."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch.utils.data

from engine.data import mix
from engine.data.ahead import Kept
from engine.data.augment import Augment
from engine.data.cache import Cache
from engine.data.image_file import ImageFile, UnreadableImage
from engine.data.mix import LazySample
from engine.data.sampler import Key
from engine.data.turns import Turns
from engine.data.viewport import Viewport, cut, warp
from engine.data.warp_truth import warp_record
from engine.errors import UserError
from engine.protocols import DatasetOptions
from engine.structures import Sample

T = TypeVar("T")


class Samples(torch.utils.data.Dataset):
    """Samples by key, at the network's input size; an `UnreadableImage` where reading fails.

    An image mixed with one that cannot be read is left out with it.
    `size` is the (height, width) of the network's input, unless a key has its own side.
    With `whole_images` the network learns labels of images, whether the dataset has boxes or not:
    each of two mixed images counts by its share.
    """

    def __init__(
        self,
        *,
        dataset: Any,
        augment: Augment,
        size: tuple[int, int],
        seed: int,
        train: bool,
        cache: Cache | Kept | None = None,
        whole_images: bool = False,
    ) -> None:
        self.dataset, self.augment, self.size = dataset, augment, size
        self.seed, self.train, self.cache = seed, train, cache
        if train and len(dataset):
            has_boxes = dataset.record(0).boxes is not None
            augment.check_boxes(has_boxes)
            whole_images = whole_images or not has_boxes
            if augment.cutmix and not whole_images:
                raise UserError(
                    "augment.cutmix mixes the classes of whole images, the network learns boxes: "
                    "set augment.cutmix=0; augment.mosaic is for boxes"
                )
        self.whole_images = whole_images
        self._open = Turns(self._lazy_or_error, DatasetOptions.requests.of(dataset))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample | UnreadableImage:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample | UnreadableImage]:
        """The samples of a batch: first all viewports and truths, then all pixels.

        Done image by image, the decoder would push the code of the first step out of the
        processor's caches each time, which costs an eighth of the time. Where a dataset has to
        wait for an image's bytes, the first part is done by threads, a batch ahead.
        """
        lazy = self._open(keys)
        return [x if isinstance(x, UnreadableImage) else _or_unreadable(x) for x in lazy]

    def _lazy_or_error(self, key: Key) -> Callable[[], Sample] | UnreadableImage:
        return _or_unreadable(partial(self._lazy, key))

    def _lazy(self, key: Key) -> Callable[[], Sample]:
        """A function that makes the sample's pixels and returns the sample."""
        epoch, index, *side = key
        size = (side[0], side[0]) if side else self.size
        if not self.train:
            full = self._full(index, size)
            return lambda: Sample(full.draw(), *full[1:])
        rng = np.random.default_rng(_words(self.seed, epoch, index))
        lazy = self._mixed(rng, index, size)
        colour = self.augment.random_colour(rng)
        return lambda: Sample(self.augment.paint(rng, lazy.draw(), colour), *lazy[1:])

    def _full(self, index: int, size: tuple[int, int]) -> LazySample:
        """The image for evaluation and prediction, without augmentation."""
        image = self.image_file(index)
        return self.view(image, self.augment.full_viewport(image.size, size), size)

    def image_file(self, index: int) -> ImageFile:
        """The image of this index; raises as `ImageFile`."""
        return ImageFile(self.dataset, index, self.cache)

    def view(
        self, image: Any, viewport: Viewport, size: tuple[int, int], cut_out: bool = True
    ) -> LazySample:
        """The image in a view of (height, width); in training and in evaluation by the same way.

        `image` is an `ImageFile`, or has what is read of one here and in `_warped`.
        `cut_out` makes a crop as torchvision's preprocessing does, to the pixel.
        """
        augment = self.augment
        if cut_out and augment.fit == "crop":
            lazy = self._warped(image, viewport, size, 1)  # never decoded smaller
            return lazy._replace(
                draw=lambda: cut(image.read(1), viewport, size, augment.interpolation)
            )
        reduce = image.reduction(viewport, size)
        return self._warped(image, viewport.snap(image.size, size, reduce), size, reduce)

    def _mixed(self, rng: np.random.Generator, index: int, size: tuple[int, int]) -> LazySample:
        """The image with random geometry, at random mixed with another one."""
        augment = self.augment
        lazy = self._image_or_mosaic(rng, index, size)
        if augment.mixup and rng.random() < augment.mixup:
            share = rng.beta(augment.mixup_alpha, augment.mixup_alpha)
            other = self._image_or_mosaic(rng, self._random_index(rng), size)
            return mix.mixup(lazy, other, share, self.whole_images)
        if augment.cutmix and rng.random() < augment.cutmix:
            share = rng.beta(augment.cutmix_alpha, augment.cutmix_alpha)
            other = self._image_or_mosaic(rng, self._random_index(rng), size)
            return mix.cutmix(rng, lazy, other, share, size)
        return lazy

    def _random_index(self, rng: np.random.Generator) -> int:
        return int(rng.integers(len(self.dataset)))

    def _image_or_mosaic(
        self, rng: np.random.Generator, index: int, size: tuple[int, int]
    ) -> LazySample:
        """One image in a random viewport, or a mosaic whose first part it is."""
        if not (self.augment.mosaic and rng.random() < self.augment.mosaic):
            return self._random(rng, index, size, size)
        parts = mix.quarters(rng, size)
        indices = [index, *(self._random_index(rng) for _ in parts[1:])]
        lazy = [self._random(rng, i, size, p.size) for i, p in zip(indices, parts, strict=True)]
        return mix.mosaic(parts, lazy, size)

    def _random(
        self, rng: np.random.Generator, index: int, size: tuple[int, int], window: tuple[int, int]
    ) -> LazySample:
        """A part of (height, width) `window` of a random viewport for `size`, at the same scale."""
        image = self.image_file(index)
        viewport = self.augment.random_viewport(rng, image.size, size, image.truth.boxes)
        full = viewport == self.augment.full_viewport(image.size, size) and window == size
        if window != size:
            viewport = viewport.part(
                (window[1] / size[1], window[0] / size[0]), rng.uniform(-1, 1, 2)
            )
        return self.view(image, viewport, window, cut_out=full)

    def _warped(
        self, image: Any, viewport: Viewport, size: tuple[int, int], step: int
    ) -> LazySample:
        """The image, decoded at 1 / step, in a view of (height, width)."""
        augment, matrix = self.augment, viewport.matrix(size)
        truth = warp_record(image.truth, matrix, size, augment.min_visible, augment.centre)
        scaled = matrix if step == 1 else matrix * (step, step, 1)
        return LazySample(lambda: warp(image.read(step), scaled, size), truth, image.meta(matrix))


def _words(*numbers: int) -> Any:
    """A generator's seed of numbers; as words of 32 bits, which it reads faster, if they fit."""
    return np.array(numbers, np.uint32) if max(numbers) < 2**32 else numbers


def _or_unreadable(make: Callable[[], T]) -> T | UnreadableImage:
    """What `make` returns, or the error if it is an `UnreadableImage`."""
    try:
        return make()
    except UnreadableImage as error:
        return error
