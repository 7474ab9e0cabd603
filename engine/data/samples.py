"""Images as the network sees them: planned, then drawn; those of training at random."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch.utils.data

from engine.data import mix
from engine.data.augment import Augment
from engine.data.cache import Cache
from engine.data.image_file import ImageFile, UnreadableImage
from engine.data.mix import LazySample
from engine.data.sampler import Key
from engine.data.viewport import Viewport, cut, warp, warp_record
from engine.structures import Sample

T = TypeVar("T")


class Samples(torch.utils.data.Dataset):
    """Images of a dataset as the network sees them; `UnreadableImage` where one cannot be read.

    An image mixed with one that cannot be read is left out with it.
    `size` is (height, width) of the network's input, unless the key says a side.
    """

    def __init__(
        self,
        *,
        dataset: Any,
        augment: Augment,
        size: tuple[int, int],
        seed: int,
        train: bool,
        cache: Cache | None = None,
    ) -> None:
        self.dataset, self.augment, self.size = dataset, augment, size
        self.seed, self.train, self.cache = seed, train, cache
        if train and len(dataset):
            augment.check_boxes(dataset.record(0).boxes is not None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample | UnreadableImage:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample | UnreadableImage]:
        """Samples of a batch: all of it is planned before a pixel is made.

        In turn, the decoder would push the plans' code out of the processor's caches each time,
        which costs an eighth of the whole.
        """
        plans = [_tried(partial(self._plan, key)) for key in keys]
        return [plan if isinstance(plan, UnreadableImage) else _tried(plan) for plan in plans]

    def _plan(self, key: Key) -> Callable[[], Sample]:
        epoch, index, *side = key
        size = (side[0], side[0]) if side else self.size
        if not self.train:
            whole = self._whole(index, size)
            return lambda: Sample(whole.draw(), *whole[1:])
        rng = np.random.default_rng((self.seed, epoch, index))
        plan = self._mixed(rng, index, size)
        colour = self.augment.random_colour(rng)
        return lambda: Sample(self.augment.paint(rng, plan.draw(), colour), *plan[1:])

    def _whole(self, index: int, size: tuple[int, int]) -> LazySample:
        """The image as evaluation and prediction see it."""
        image, augment = ImageFile(self.dataset, index, self.cache), self.augment
        viewport = augment.full_viewport(image.size, size)
        plan = self._show(image, viewport, size, image.step(viewport, size))
        if augment.fit != "crop":
            return plan
        # To the pixel as where the weights come from, so never decoded smaller.
        return plan._replace(draw=lambda: cut(image.read(1), viewport, size, augment.interpolation))

    def _mixed(self, rng: np.random.Generator, index: int, size: tuple[int, int]) -> LazySample:
        """The image, and with it another one, as drawn."""
        augment = self.augment
        plan = self._drawn(rng, index, size)
        if augment.mixup and rng.random() < augment.mixup:
            share = rng.beta(augment.mixup_alpha, augment.mixup_alpha)
            return mix.mixup(plan, self._drawn(rng, self._other(rng), size), share)
        if augment.cutmix and rng.random() < augment.cutmix:
            share = rng.beta(augment.cutmix_alpha, augment.cutmix_alpha)
            return mix.cutmix(rng, plan, self._drawn(rng, self._other(rng), size), share, size)
        return plan

    def _other(self, rng: np.random.Generator) -> int:
        return int(rng.integers(len(self.dataset)))

    def _drawn(self, rng: np.random.Generator, index: int, size: tuple[int, int]) -> LazySample:
        """One image in a drawn view, or a mosaic that begins with it."""
        if not (self.augment.mosaic and rng.random() < self.augment.mosaic):
            return self._viewed(rng, index, size, size)
        parts = mix.quarters(rng, size)
        indices = [index, *(self._other(rng) for _ in parts[1:])]
        plans = [self._viewed(rng, i, size, p.size) for i, p in zip(indices, parts, strict=True)]
        return mix.mosaic(parts, plans, size)

    def _viewed(
        self, rng: np.random.Generator, index: int, size: tuple[int, int], window: tuple[int, int]
    ) -> LazySample:
        """A window of (height, width) onto a view drawn for `size`, at the view's own scale."""
        image = ImageFile(self.dataset, index, self.cache)
        viewport = self.augment.random_viewport(rng, image.size, size, image.truth.boxes)
        if window != size:
            viewport = viewport.part(
                (window[1] / size[1], window[0] / size[0]), rng.uniform(-1, 1, 2)
            )
        step = image.step(viewport, window)
        return self._show(image, viewport.snap(image.size, window, step), window, step)

    def _show(
        self, image: ImageFile, viewport: Viewport, size: tuple[int, int], step: int
    ) -> LazySample:
        """The image, decoded at 1 / step, in a view of (height, width)."""
        augment, matrix = self.augment, viewport.matrix(size)
        truth = warp_record(image.truth, matrix, size, augment.min_visible, augment.centre)
        scaled = matrix * (step, step, 1)
        return LazySample(lambda: warp(image.read(step), scaled, size), truth, image.meta(matrix))


def _tried(make: Callable[[], T]) -> T | UnreadableImage:
    try:
        return make()
    except UnreadableImage as error:
        return error
