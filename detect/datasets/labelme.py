"""labelme's annotations (https://github.com/wkentaro/labelme): a JSON file an image.

Polygons, circles and lines give the box around them; a point has none and is left out, as is the
mask of `imageData`.
"""

from collections.abc import Iterable, Iterator
from math import hypot
from pathlib import Path
from typing import Any

from detect.datasets.boxes import is_flat
from detect.datasets.pairs import choose_pairs, find_pairs
from engine.config.ranges import PartialShare, Seed
from engine.data.image_dataset import ImageDataset, check_classes, label_of, require_dir
from engine.data.index import Box, Entry, Index, Object
from engine.data.read_json import is_finite, read_json
from engine.errors import UserError

PLAIN = ("rectangle",)


class Labelme(ImageDataset):
    """Images and boxes of one split: of a folder train, val or test, of a list, or a share.

    An image belongs to the file of its name, beside it or in another folder.

    Args:
        root: the folder, with its sub-folders.
        splits: a folder of <split>.txt, for a set without folders of splits.
        val_share: of train, held out as "val" where there is no such split.
        seed: of that choice.
        classes: in the order of the labels; None: all labels, sorted.
        view, on_error: see `ImageDataset`.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str,
        splits: str | None = None,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        classes: list[str] | None = None,
        view: str = "all",
        on_error: str = "fail",
    ) -> None:
        super().__init__(view=view, on_error=on_error)
        base = require_dir(root)
        self.folder, self._around = str(base), 0
        found = find_pairs(base, ".json")
        pairs = [pair for several in found.splits.values() for pair in several]
        if not any(pair.image for pair in pairs):
            raise UserError(f"dataset.root={root}: expected images with a JSON file each in it")
        if classes is None:
            classes = _class_names(base / pair.annotation for pair in pairs)
        self.classes = check_classes(classes)
        how, chosen = choose_pairs(self, found, base, split, splits, val_share)
        named = [(pair.image, base / pair.annotation) for pair in chosen if pair.image]
        self.index = Index.of(self._entries(named))
        if self._around:
            self.notes.append(f"{self._around} shapes are no rectangle: the box around each")
        self.check_boxes()
        self.select_split(how, split, val_share, seed)

    def _entries(self, images: Iterable[tuple[str, Path]]) -> Iterator[Entry]:
        labels = {name: label for label, name in enumerate(self.classes)}
        for file, annotation in images:
            try:
                content = _read(annotation)
            except ValueError as error:
                self.leave_out(annotation, None, str(error))
                continue
            size = _size(content)
            yield Entry(file, list(self._objects(content, annotation, labels, size)), size)

    def _objects(
        self, content: Any, file: Path, labels: dict[str, int], size: tuple[int, int] | None
    ) -> Iterator[Object]:
        """The good shapes of one file."""
        for number, shape in enumerate(content["shapes"], 1):
            try:
                box, label = box_of(shape), label_of(str(shape.get("label", "")), labels)
            except ValueError as error:
                self.leave_out(file, number, str(error), "shape")
                continue
            self._around += shape.get("shape_type", "polygon") not in PLAIN
            yield box, label, is_flat(self, file, number, box, size)


def box_of(shape: Any) -> Box:
    """The corners of the box around a shape; ValueError where it has none."""
    points = shape.get("points") if isinstance(shape, dict) else None
    good = isinstance(points, list) and all(
        isinstance(p, list) and len(p) == 2 and all(map(is_finite, p)) for p in points
    )
    if not good or not points or len(points) < 2:
        raise ValueError(f"points are {str(points)[:60]}, expected two of [x, y] or more")
    if shape.get("shape_type") == "circle":  # its centre and a point on it
        (x, y), (on_x, on_y) = points[:2]
        radius = hypot(on_x - x, on_y - y)
        return x - radius, y - radius, x + radius, y + radius
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _read(file: Path) -> Any:
    """The content of a file; ValueError where it is none of labelme's."""
    try:
        content = read_json(file)
    except UserError as error:
        raise ValueError(str(error)) from error
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise ValueError("no list of shapes in it, as labelme's files have")
    return content


def _class_names(files: Iterable[Path]) -> list[str]:
    """The labels of all files, sorted; those that cannot be read are passed over."""
    names = set()
    for file in files:
        try:
            names.update(str(shape.get("label", "")) for shape in _read(file)["shapes"])
        except ValueError:
            continue  # its own split reports it
    if not names - {""}:
        raise UserError("dataset: no shape with a label in any *.json file, so no class")
    return sorted(names - {""})


def _size(content: dict[str, Any]) -> tuple[int, int] | None:
    """Declared (height, width), where both are there and above 0."""
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
        return height, width
    return None
