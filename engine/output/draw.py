"""Draws objects and attention on images."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from engine.console import printable
from engine.data.image import write_rgb
from engine.distributed.processes import rank_zero_only
from engine.output.file_names import FileNames
from engine.output.video import Video
from engine.protocols import MetricOptions
from engine.record import Meta
from engine.structures import BACKGROUND, Objects

SMALLEST = 480  # pixels; smaller images are enlarged so that labels can be read
LARGE = 1000  # pixels of the longer side, above which texts and lines grow with the image
CAP = 100  # boxes on an image
FONT, FONT_SCALE, LINE = cv2.FONT_HERSHEY_SIMPLEX, 0.5, 16  # the height of a line, pixels
UNEVEN = 2.0  # times the mean
STRONGEST = 0.7  # share of the colour where attention is highest


def colours(count: int) -> np.ndarray:
    """Return distinct bright RGB colours [count, 3], evenly spaced in hue."""
    hue = np.arange(max(count, 1)) * 180 // max(count, 1)  # OpenCV converts no empty image
    hsv = np.stack([hue, np.full_like(hue, 200), np.full_like(hue, 255)], 1).astype(np.uint8)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0, :count]


def _magnified(image: np.ndarray) -> float:
    """How much larger than usual texts and lines are on an image."""
    return max(1.0, max(image.shape[:2]) / LARGE)


def _put_text(image: np.ndarray, text: str, at: tuple[int, int]) -> None:
    """Write in white with a black outline, readable on any image.

    The outline is the text itself, moved: OpenCV 5 gives a thicker one wider letters.
    """
    size = _magnified(image)
    step, scale, width = round(size), FONT_SCALE * size, round(size)
    for right, down in ((-step, 0), (step, 0), (0, -step), (0, step), (0, 0)):
        colour = (0 if right or down else 255,) * 3
        place = (at[0] + right, at[1] + down)
        cv2.putText(image, text, place, FONT, scale, colour, width, cv2.LINE_AA)


class Labels:
    """Texts at the corners of boxes, kept inside the image and off each other."""

    def __init__(self, image: np.ndarray) -> None:
        self.image, self.size = image, _magnified(image)
        self.line = round(LINE * self.size)
        self.taken: list[tuple[int, int, int]] = []  # left, right, baseline

    def add(self, text: str, x: int, y: int) -> None:
        """Write at the corner (x, y), or below other texts where they are in the way."""
        text = printable(text)  # OpenCV crashes on a lone surrogate
        length = cv2.getTextSize(text, FONT, FONT_SCALE * self.size, 1)[0][0]
        start = max(min(x + 4, self.image.shape[1] - length - 2), 2)
        end, baseline, line = start + length, y + self.line, self.line
        across = [b for s, e, b in self.taken if start < e and s < end]
        while near := [b for b in across if abs(baseline - b) < line]:
            baseline = max(near) + line
        self.taken.append((start, end, baseline))
        _put_text(self.image, text, (start, baseline))


def annotate(
    image: np.ndarray,
    objects: Objects,
    classes: Sequence[str],
    show: float = 0.0,
    scores: bool = True,
    caption: str = "",
) -> np.ndarray:
    """Return a copy of `image` [H, W, 3], enlarged if small, with its objects drawn.

    Args:
        image: RGB.
        objects: of this image, in its pixels.
        classes: names by label; a box without one (BACKGROUND) has no text.
        show: objects with a lower score are left out.
        scores: write them after the class names; False, for truth, marks ignored objects instead.
        caption: stands at the bottom, before what is not drawn: boxes beyond CAP, and the best
            score where none reaches `show`.
    """
    enlarge = max(1.0, SMALLEST / max(image.shape[:2]))
    image = cv2.resize(image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
    palette = colours(len(classes))
    notes = [caption] if caption else []
    # NumPy, whose calls cost a fifth of torch's for a handful of boxes
    values = objects.scores.numpy()
    shown = np.flatnonzero(values >= show)
    if len(values) and not len(shown):
        notes.append(f"best {values.max():.2f} below show={show:g}")
    if len(shown) > CAP:
        notes.append(f"{len(shown) - CAP} more not drawn")
        shown = shown[np.argsort(-values[shown], kind="stable")[:CAP]]
    boxes = (objects.boxes.numpy()[shown] * np.float32(enlarge)).round().astype(int).tolist()
    labels = objects.labels.numpy()[shown].tolist()
    for box, label in zip(boxes, labels, strict=True):
        colour, width = palette[label].tolist(), round(2 * _magnified(image))
        cv2.rectangle(image, box[:2], box[2:], colour, width, cv2.LINE_AA)
    texts = Labels(image)
    suffixes = [f" {score:.2f}" for score in values[shown].tolist()]
    if not scores:
        ignored = objects.ignore.numpy()[shown].tolist()
        suffixes = [" (ignored)" if each else "" for each in ignored]
    for box, label, suffix in zip(boxes, labels, suffixes, strict=True):
        if label != BACKGROUND:
            texts.add(f"{classes[label]}{suffix}", box[0], box[1])
    if notes:
        texts.add(", ".join(notes), 0, image.shape[0] - round(1.5 * texts.line))
    return image


def heat(
    image: np.ndarray, weights: np.ndarray, matrix: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Return a copy of `image` [H, W, 3] with an attention map over it: red is high, none is clear.

    Attention that is the same everywhere has the colour of the middle, as red is at least UNEVEN
    times the mean.

    Args:
        image: RGB, the original image.
        weights: [h, w], not negative, over the cells of the network's input.
        matrix: [2, 3], original pixels -> network input (`Meta.matrix`).
        size: (height, width) of the network's input.
    """
    mean = max(float(weights.mean()), 1e-12)
    weights = (weights / (mean * red_at(weights))).astype(np.float32)
    cells = np.array(weights.shape[::-1]) / size[::-1]  # (x, y) cells a pixel of the input
    # OpenCV's coordinates are of pixel centres, ours of pixel edges.
    linear, offset = matrix[:, :2], matrix[:, 2]
    x, y = np.meshgrid(np.arange(image.shape[1]) + 0.5, np.arange(image.shape[0]) + 0.5)
    at = np.stack([x, y], -1) @ linear.T + offset  # [H, W, xy] in pixels of the input
    seen = ((at >= 0) & (at <= size[::-1])).all(-1)
    u, v = np.moveaxis((at * cells - 0.5).astype(np.float32), -1, 0)
    shown = cv2.remap(weights, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) * seen
    colour = cv2.applyColorMap((shown * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    colour = cv2.cvtColor(colour, cv2.COLOR_BGR2RGB)
    share = STRONGEST * shown[..., None]
    return (image * (1 - share) + colour * share).round().astype(np.uint8)


def red_at(weights: np.ndarray) -> float:
    """Return how many times the mean of a map [h, w] the attention is that `heat` draws in red."""
    return max(float(weights.max()) / max(float(weights.mean()), 1e-12), UNEVEN)


def samples(
    dataset: Any,
    predicted: Sequence[tuple[Objects, list[Meta]]],
    count: int,
    show: float = 0.4,
    caption: str = "",
) -> Iterator[tuple[np.ndarray, Meta]]:
    """Yield the first `count` predicted images of a dataset, annotated, with the threshold."""
    caption = ", ".join(filter(None, (caption, f"scores from {show:g}")))
    pairs = ((objects.of(i), m) for objects, meta in predicted for i, m in enumerate(meta))
    for objects, meta in islice(pairs, count):
        yield (
            annotate(dataset.image(meta.index), objects, dataset.classes, show, caption=caption),
            meta,
        )


@rank_zero_only
def charts(metric: Any, folder: Path) -> None:
    """Write the images that a metric draws, such as a confusion matrix; old files are replaced."""
    for name, image in MetricOptions.images.of(metric)().items():
        write_rgb(str(folder / f"{name}.png"), image)


class Album:
    """Writes annotated images: one file each, or with a frame rate, one video.

    As a context manager it finishes the video at the end of the block; an error discards it.

    Args:
        folder: made at the first image.
        rate: frames a second, or None for single images.
        taken: names of other files in the folder.
    """

    def __init__(self, folder: Path, rate: float | None = None, taken: Iterable[str] = ()) -> None:
        self.folder, self.rate = folder, rate
        self.names = FileNames(".jpg" if rate is None else ".mp4", taken)
        self.video: Video | None = None

    def name(self, meta: Meta) -> str:
        """Return the name of an image's file, made of the image's id, or of the one video's."""
        if self.rate is not None:
            return self.names.of("video", Path(meta.path).stem)
        return self.names.of(meta.index, str(meta.id))

    def add(self, image: np.ndarray, meta: Meta) -> None:
        """Write one RGB image.

        Raises:
            NotWritten: naming the file and the reason.
        """
        if self.rate is None:
            write_rgb(str(self.folder / self.name(meta)), image)
            return
        if self.video is None:
            self.video = Video(self.folder / self.name(meta), self.rate, image.shape[1::-1])
        self.video.add(image)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self.video is not None:
            self.video.close(error)
