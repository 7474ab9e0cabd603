"""What `predict.py` leaves of each image: drawings, tables and crops, as `save` asks."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from engine.data.ahead import Kept
from engine.data.frames import Frames
from engine.data.image import write_rgb
from engine.errors import UserError, did_you_mean
from engine.output import draw, predictions, tables
from engine.output.background import Background
from engine.output.file_names import FileNames
from engine.record import Meta
from engine.structures import Objects
from engine.whole_file import write_whole

KINDS = ("images", "json", "csv", "yolo", "crops")
OF_BOXES = ("yolo", "crops")
FREE = 32  # bytes behind a name for the numbers of a frame and a box
FULL = ("images", "crops")  # made of the full image


def check_save(save: Sequence[str]) -> None:
    """Refuse a list of results that is empty, or names one that there is not.

    Raises:
        UserError: with the nearest name.
    """
    if not save:
        raise UserError(f"save=[]: nothing would be written; expected some of {', '.join(KINDS)}")
    for name in save:
        if name not in KINDS:
            hint = did_you_mean(name, KINDS)
            raise UserError(f"save=[{name}]: expected some of {', '.join(KINDS)}{hint}")


def check_boxes(save: Sequence[str], has_boxes: bool) -> None:
    """Refuse results of boxes for a network that finds none.

    Raises:
        UserError: naming the results.
    """
    if not has_boxes and (without := [name for name in save if name in OF_BOXES]):
        left = [name for name in KINDS if name not in OF_BOXES]
        raise UserError(
            f"save=[{','.join(without)}]: made of boxes, but this network labels whole images; "
            f"expected some of {', '.join(left)}"
        )


def kept_images(*, save: Sequence[str], frames: bool) -> Kept:
    """Where the images to be drawn wait; frames without a limit, since they are read once."""
    if not set(save) & set(FULL):
        return Kept(most=0)
    return Kept(most=None) if frames else Kept()


class Results:
    """Writes the results of images into a folder; as a context manager, whole at the end.

    An error in the block discards the tables and the video. Full images are drawn, cut and encoded
    by threads, beside the network.

    Args:
        folder: made if there is none.
        save: some of `KINDS`.
        categories: of each label.
        has_boxes: whether the network finds boxes.
        data: the images, as `engine.data.source.open_source` gives them.
        image: [H, W, 3] uint8 RGB of an index of `data`; asked for once.
        show: objects of at least this score are drawn and cut out.
        size: (height, width) of the network's input.
        threads: that draw; 0 for none.
    """

    def __init__(
        self,
        *,
        folder: Path,
        save: Sequence[str],
        categories: Sequence[predictions.Category],
        has_boxes: bool,
        data: Any,
        image: Callable[[int], np.ndarray],
        show: float,
        size: tuple[int, int],
        threads: int,
    ) -> None:
        check_save(save)
        check_boxes(save, has_boxes)
        self.folder, self.save, self.data, self.image = folder, save, data, image
        self.classes = [category.name for category in categories]
        self.show, self.size = show, size
        self.images = self.rows = 0  # so far
        frames = isinstance(data, Frames)
        rate = data.rate if isinstance(data, Frames) else None
        if "yolo" in save and not frames:
            tables.check_label_files(data.names)
        self.album = draw.Album(folder / "images", rate) if "images" in save else None
        self.json = self.csv = self.yolo = self.crops = None
        if "json" in save:
            self.json = predictions.Writer(folder / "predictions.json", categories, frames)
        if "csv" in save:
            self.csv = tables.CSV(folder / "predictions.csv", classes=self.classes,
                                  has_boxes=has_boxes, frames=frames)  # fmt: skip
        if "yolo" in save:
            self.yolo = tables.YOLOLabels(folder, classes=self.classes)
        if "crops" in save:
            stem = data.stem if frames else None
            self.crops = Crops(folder / "crops", classes=self.classes, stem=stem)
        # one thread writes the frames of a video in order
        self.background = Background(min(threads, 1) if frames else threads)
        self._stack = ExitStack()

    def add(
        self, found: Objects, meta: Sequence[Meta], attention: Tensor | None = None
    ) -> list[Objects]:
        """Write the results of a batch; return the objects of each of its images.

        Args:
            found: on the CPU, in pixels of the original images; `batch_index` is a row of `meta`.
            meta: one entry an image.
            attention: [B, h, w] weights of the head, drawn over the images.
        """
        if self.json:
            self.json.add(found, meta)
        self.images += len(meta)
        self.rows += len(found)
        images = found.split(len(meta))
        for i, (objects, each) in enumerate(zip(images, meta, strict=True)):
            name = self.data.name(each.index)
            if self.csv:
                self.csv.add(objects, each, name)
            if self.yolo:
                self.background.call(write_whole, *self.yolo.file(objects, each, name))
            if self.album or self.crops:
                weights = None if attention is None else attention[i].float().cpu().numpy()
                for part in filter(None, (self.album, self.crops)):
                    part.name(each)  # is made here, as threads come in any order
                self.background.call(self._paint, objects, each, weights)
        return images

    def _paint(self, found: Objects, meta: Meta, weights: np.ndarray | None) -> None:
        image, caption = self.image(meta.index), ""
        if self.crops:
            self.crops.add(image, found.select(found.scores >= self.show), meta)
        if self.album is None:
            return
        if weights is not None:
            image = draw.heat(image, weights, meta.matrix, self.size)
            caption = f"attention: red is {draw.red_at(weights):.1f} x the mean"
        drawn = draw.annotate(image, found, self.classes, self.show, caption=caption)
        self.album.add(drawn, meta)

    def __enter__(self) -> Self:
        for part in (self.album, self.json, self.csv, self.background):
            if part:
                self._stack.enter_context(part)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._stack.__exit__(kind, error, trace)


class Crops:
    """Boxes cut out of their images: CLASS/IMAGE_N.jpg, N from 1 on in each image.

    Args:
        folder: of the folders of classes.
        classes: the name of each label.
        stem: of frames the name of what they are of; their numbers tell them apart.
    """

    def __init__(self, folder: Path, *, classes: Sequence[str], stem: str | None = None) -> None:
        folders = FileNames("")
        self.folders = [folder / folders.of(*pair) for pair in enumerate(classes)]
        self.folders.append(folder / folders.of(-1, tables.UNNAMED))  # of the label -1
        self.names, self.stem = FileNames("", free=FREE), stem

    def name(self, meta: Meta) -> str:
        """Return how the names of an image's files begin."""
        if self.stem is None:
            return self.names.of(meta.index, str(meta.id))
        return f"{self.names.of(self.stem, self.stem)}_{meta.index:06d}"

    def add(self, image: np.ndarray, found: Objects, meta: Meta) -> None:
        """Write the boxes of an RGB image, in whole pixels that hold them.

        Raises:
            NotWritten: naming the file and the reason.
        """
        height, width = image.shape[:2]
        rows = zip(found.labels.tolist(), found.boxes.tolist(), strict=True)
        for number, (label, (x1, y1, x2, y2)) in enumerate(rows, 1):
            left, top = min(int(x1), width - 1), min(int(y1), height - 1)
            right, bottom = max(int(np.ceil(x2)), left + 1), max(int(np.ceil(y2)), top + 1)
            name = f"{self.name(meta)}_{number}.jpg"
            write_rgb(str(self.folders[label] / name), image[top:bottom, left:right])
