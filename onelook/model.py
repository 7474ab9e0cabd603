"""Trained networks in Python: `load` opens one, and the model that it returns predicts."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL.Image import Image

from engine.builders import from_checkpoint, parts
from engine.builders.from_checkpoint import Trained
from engine.builders.instantiate import part
from engine.config import keys
from engine.config.image_size import size_of
from engine.config.ranges import PartialShare, check_value
from engine.console import info
from engine.data.given import Given
from engine.data.loader import Loader
from engine.data.source import has_frames, is_stream, open_source
from engine.errors import UserError
from engine.record import Meta
from engine.structures import Objects
from engine.training.loop import predict_batches
from engine.training.precision import resolve
from onelook.compose import check_list, compose, explained, quoted, without_hydra
from onelook.found import Found
from onelook.images import Frames, datasets, is_image, is_path

INSTEAD = {  # of keys of predict.py
    "checkpoint": "load(PATH)",
    "model": "load(NAME, weights=...)",
    "backbone.weights": "load(NAME, weights=...)",
    "device": "load(..., device=...)",
    "trust": "load(..., trust=...)",
    "source": "model(...)",
    "show": "found.draw(show=...)",
}


def load(
    path: str | PathLike[str],
    *,
    weights: str | PathLike[str] | None = None,
    device: str | torch.device = "auto",
    score: float | None = None,
    trust: bool | Sequence[str] = False,
    overrides: Sequence[str] = (),
) -> "Model":
    """Open a trained network.

    Args:
        path: a checkpoint (best.pt), a file of engine.export (model.onnx, model.xml), or with
            `weights` the name of a preset, as resnet50.
        weights: of a preset, its head included: DEFAULT, another of torchvision's names, or a file.
        device: auto, cpu, cuda, cuda:1 or mps.
        score: what scores this or less is left out; a detector's own threshold that is higher
            becomes this one. None: all that predict.py writes to predictions.json.
        trust: packages of your own whose classes a checkpoint may name, or True for any code.
        overrides: other keys of predict.py, as ["trainer.precision=fp32", "on_error=skip"].

    Raises:
        UserError: in one line, as predict.py says it.
    """
    name = fspath(path)
    if score is not None:
        check_value(score, PartialShare, "score")
    arguments = _arguments(name, weights, device, overrides)
    cfg = without_hydra(compose("predict", arguments))
    if weights is None:
        cfg.trust = trust if isinstance(trust, bool | str) else list(trust)
    elif trust:
        raise UserError("trust= is for checkpoints; files of weights are read as tensors alone")
    with explained("predict" if weights is None else "pretrained", arguments):
        place = parts.device(cfg.device)
        trained = from_checkpoint.predictor(cfg, place, arguments, score)
        if not any(text.startswith("loader.workers=") for text in overrides):
            trained.cfg.loader.workers = 0  # a program that has threads is not to be forked
        return Model(name, trained, place, score, cfg.on_error)


def _arguments(name: str, weights: Any, device: Any, overrides: Sequence[str]) -> list[str]:
    """What `load` was given as predict.py's command line."""
    check_list(overrides)
    for key in (text.lstrip("+~").partition("=")[0] for text in overrides):
        if key in INSTEAD:
            raise UserError(f"overrides: {key}: use {INSTEAD[key]}")
    rest = [f"device={quoted(str(device))}", *overrides]
    if weights is not None:
        return [f"model={name}", f"backbone.weights={quoted(fspath(weights))}", *rest]
    if name in keys.options("model") and not Path(name).exists():
        raise UserError(
            f"load('{name}'): a preset has no weights by itself: load('{name}', weights='DEFAULT') "
            "or weights=FILE; or the path of a checkpoint"
        )
    return [f"checkpoint={quoted(name)}", *rest]


class Model:
    """A trained network that predicts. Several threads may call it at once.

    Attributes:
        classes: their names, by label.
        device: where it predicts.
    """

    def __init__(
        self, name: str, trained: Trained, device: torch.device, score: float | None, on_error: str
    ) -> None:
        self.name, self.device = name, device
        self.classes = [category.name for category in trained.categories]
        self._network, self._cfg, self._categories = trained
        self._score, self._on_error = score, on_error
        self._augment, self._size = part(self._cfg.augment, "augment"), size_of(self._cfg)
        self._precision = resolve(self._cfg.trainer.precision, device)
        self._has_boxes = "boxes" in self._network.head.outputs

    def __repr__(self) -> str:
        return f"<Model {Path(self.name).name}: {len(self.classes)} classes, on {self.device}>"

    @overload
    def __call__(self, images: Image | np.ndarray) -> Found: ...
    @overload
    def __call__(self, images: list[Any] | tuple[Any, ...]) -> list[Found]: ...
    @overload
    def __call__(self, images: str | PathLike[str]) -> Any: ...
    @overload
    def __call__(self, images: Iterator[Any]) -> Iterator[Found]: ...
    def __call__(self, images: Any) -> Any:
        """Predict; the results are those of predict.py on the same files, to the last bit.

        An array or PIL image is taken as it is, while of a file the decoder may give a smaller
        image, where that is enough for the network: then their results differ a little. A PIL image
        is turned as its EXIF asks, and transparent parts are laid on white, as of a file.

        Args:
            images: one image: a path, a PIL image, or an array [H, W, 3] uint8 of RGB (OpenCV
                reads BGR: `array[..., ::-1]`). Many: a list of these, a folder, a glob, a video, or
                an iterator, of which a batch is read at once.

        Returns:
            A `Found` of one image, a list of a list, else an iterator, which keeps one batch.

        Raises:
            UserError: in one line; of an iterator where it comes to an image that cannot be read.
        """
        if is_path(images) and not is_image(images):
            return self._source(fspath(images))
        batch = self._cfg.loader.batch_size
        if isinstance(images, list | tuple):
            return list(self._given(images, min(batch, max(len(images), 1))))
        if isinstance(images, Iterator):
            return self._given(images, batch)
        return next(self._given([images], 1))

    def _given(self, images: Iterable[Any], batch_size: int) -> Iterator[Found]:
        """The results of images that are given one by one."""
        waiting: deque[Any] = deque()  # those in the network
        given = Given(
            _noted(datasets(images), waiting),
            augment=self._augment,
            size=self._size,
            batch_size=batch_size,
        )
        return self._predict(given, lambda meta: partial(waiting.popleft().image, 0))

    def _source(self, source: str) -> Iterator[Found]:
        """The results of a folder, a glob, a video or an animation, opened here."""
        if is_stream(source):
            raise UserError(
                f"{source}: give an iterator of the frames, as cv2.VideoCapture reads them"
            )
        data = open_source(source=source, on_error=self._on_error)
        cfg: Any = self._cfg
        if has_frames(source):
            cfg = OmegaConf.merge(cfg, {"loader": {"workers": 0}})  # they come in order
        images = Frames(source) if has_frames(source) else data
        loader = parts.loader(cfg, data, self.device)
        return self._predict(
            loader, lambda meta: partial(images.image, meta.index), has_frames(source)
        )

    def _predict(
        self,
        loader: Loader | Given,
        image_of: Callable[[Meta], Callable[[], np.ndarray]],
        frames: bool = False,
    ) -> Iterator[Found]:
        """The results of batches; `image_of` is called for each image in order."""
        predicted = predict_batches(
            self._network, loader, self.device, self._precision, losses=False
        )
        for objects, batch, _ in predicted:
            for i, meta in enumerate(batch.meta):
                yield Found(
                    objects=self._kept(objects.of(i)),
                    meta=meta,
                    categories=self._categories,
                    has_boxes=self._has_boxes,
                    image=image_of(meta),
                    frames=frames,
                )
        for entry in loader.dataset.report if isinstance(loader, Loader) else ():
            info(f"left out: {entry['reason']}")

    def _kept(self, objects: Objects) -> Objects:
        """The objects above the score that `load` was given."""
        return objects if self._score is None else objects.select(objects.scores > self._score)


def _noted(items: Iterable[Any], waiting: deque[Any]) -> Iterator[Any]:
    """The items, each also put at the end of `waiting`."""
    for item in items:
        waiting.append(item)
        yield item
