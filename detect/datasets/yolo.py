"""YOLO's layout: images/<split>/*.jpg, labels/<split>/*.txt and the names of the classes.

A row is `class cx cy w h`, class from 0, the rest as shares of the upright image's sides; a sixth
value, the score of a prediction, is passed over. A split may also lie outside, <split>/images and
<split>/labels, or images/ and labels/ be in one piece.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from detect.datasets.boxes import is_flat, numbers
from engine.config.ranges import PartialShare, Seed
from engine.data.image import IMAGE_SUFFIXES, image_size_of
from engine.data.image_dataset import ImageDataset, check_classes, require_dir
from engine.data.index import Entry, Index, Object
from engine.data.splits import find_split, list_rows
from engine.errors import UserError
from engine.regular_file import read_regular

COLUMNS = ("class", "cx", "cy", "w", "h")
IMAGES, LABELS, CLASSES = "images", "labels", "classes.txt"
LARGEST_YAML = 2**19  # bytes; of ten thousand names
NAMES = "expected a list under names, as names: [cat, dog], or names by number from 0 on"
SLACK = 1.0  # pixels that a box may reach over the border by the rounding of its shares


class YOLO(ImageDataset):
    """Images and boxes of one split.

    An image without a file of labels has no object, which is noted; rows of polygons are defects.
    Boxes without area are kept and ignored, and as those that leave their image reported.

    Args:
        root: the folder.
        classes: in the order of the labels; None: `names` of data.yaml, or the rows of classes.txt.
        splits: a folder of <split>.txt that name images of a set in one piece.
        val_share: of train, held out as "val" where there is no such split.
        seed: of that choice.
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
        self.classes = check_classes(_class_names(base) if classes is None else classes)
        own = _own(base)
        how = find_split(split, root=base, own=own, lists=splits, val_share=val_share)
        self._labels, folder = own.get(how.source, (base / LABELS, base / IMAGES))
        self.folder, self._scored = str(folder), 0
        self.index = Index.of(self._entries(folder))
        if self._scored:
            self.notes.append(f"{self._scored} rows have a score, of a prediction: passed over")
        self.select_split(how, split, val_share, seed)

    def _entries(self, folder: Path) -> Iterator[Entry]:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        labels = {f.relative_to(self._labels).with_suffix("") for f in self._labels.rglob("*.txt")}
        names = {file.relative_to(folder).with_suffix("") for file in files}
        for name in sorted(labels - names - {Path("classes")}):
            self.leave_out(self._labels / f"{name}.txt", None, "no image of this name")
        if bare := len(names - labels):
            beside = f"; there are *.txt in {folder}" if any(folder.rglob("*.txt")) else ""
            missing = f"{bare} images of {folder} have no *.txt in {self._labels}"
            self.notes.append(f"{missing}: without objects{beside}")
        for file in files:
            name = file.relative_to(folder)
            rows = (self._labels / name).with_suffix(".txt")
            try:
                size = image_size_of(os.fspath(file))
                texts = list(list_rows(rows)) if name.with_suffix("") in labels else []
            except UserError as error:
                self.leave_out(file, None, str(error))
                continue
            yield Entry(name.as_posix(), list(self._objects(rows, texts, size)), size)

    def _objects(
        self, file: Path, rows: list[tuple[int, str]], size: tuple[int, int]
    ) -> Iterator[Object]:
        """The good rows of one file of labels; boxes in pixels of an image of `size`."""
        for number, row in rows:
            try:
                label, box = self._row(row.split(), size)
            except ValueError as error:
                self.leave_out(file, number, str(error))
                continue
            yield box, label, is_flat(self, file, number, box, size, SLACK)

    def _row(self, texts: list[str], size: tuple[int, int]) -> tuple[int, tuple[float, ...]]:
        if len(texts) == len(COLUMNS) + 1:
            *texts, score = texts
            numbers([score], ("score",))
            self._scored += 1
        if len(texts) != len(COLUMNS):
            polygon = "; it is a polygon, of segmentation" if len(texts) > 6 else ""
            raise ValueError(f"{len(texts)} values, expected {' '.join(COLUMNS)}{polygon}")
        label, cx, cy, w, h = numbers(texts, COLUMNS)
        if label not in range(len(self.classes)):
            raise ValueError(f"class {texts[0]}, expected 0 to {len(self.classes) - 1}")
        if min(w, h) < 0:
            raise ValueError(f"w {w:g}, h {h:g}, expected sizes from 0 on")
        if max(abs(cx), abs(cy), w, h) > 2:
            raise ValueError(f"'{' '.join(texts)}': expected shares of the image, not pixels")
        height, width = size
        corners = (cx - w / 2) * width, (cy - h / 2) * height
        return int(label), (*corners, (cx + w / 2) * width, (cy + h / 2) * height)


def _own(root: Path) -> dict[str, tuple[Path, Path]]:
    """Folders of labels and of images by split; none where the set is in one piece."""
    if not any(root.glob(IMAGES)) and not any(root.glob(f"*/{IMAGES}")):
        raise UserError(
            f"dataset.root={root}: expected {IMAGES}/<split>/ and {LABELS}/<split>/ in it"
        )
    inside = (p for p in (root / IMAGES).glob("*") if p.is_dir())
    own = {p.name: (root / LABELS / p.name, p) for p in inside}
    return own | {p.parent.name: (p.parent / LABELS, p) for p in root.glob(f"*/{IMAGES}")}


def _class_names(root: Path) -> list[str]:
    """`names` of data.yaml, a list or a map from 0 on, else the rows of classes.txt."""
    file = root / "data.yaml"
    if os.path.lexists(file):  # a dead link is not passed over
        return _yaml_names(file)
    files = [f for f in (root / CLASSES, root / LABELS / CLASSES) if os.path.lexists(f)]
    if not files:
        raise UserError(
            f"dataset.root={root}: expected data.yaml or {CLASSES} in it, or dataset.classes=[...]"
        )
    return [name for _, name in list_rows(files[0])]


def _yaml_names(file: Path) -> list[str]:
    """Each name as it is written: `no` and 010 are names too, whatever else YAML takes them for.

    The text is only parsed to its nodes, so an alias is never copied.
    """
    try:
        root = yaml.compose(read_regular(file, LARGEST_YAML), yaml.BaseLoader)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; {NAMES}") from None
    except RecursionError:
        raise UserError(f"{file}: nested too deeply; {NAMES}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{file}: no YAML ({' '.join(str(error).split())}); {NAMES}") from None
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    found = [value for key, value in pairs if key.value == "names"]
    if len(found) != 1:
        raise UserError(f"{file}: {len(found)} keys 'names'; {NAMES}")
    names = _by_number(file, found[0])
    if not names:
        raise UserError(f"{file}: names is empty; {NAMES}")
    for i, node in enumerate(names):
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            raise UserError(f"{file}: name {i} is no text; {NAMES}")
    _check_count(file, pairs, len(names))
    return [node.value for node in names]


def _check_count(file: Path, pairs: list[tuple[yaml.Node, yaml.Node]], count: int) -> None:
    """Refuse a data.yaml whose `nc` is another number than that of its names."""
    for key, value in pairs:
        if key.value == "nc" and value.value != str(count):
            raise UserError(
                f"{file}: nc is {str(value.value):.40}, names has {count}: make them agree; {NAMES}"
            )


def _by_number(file: Path, names: yaml.Node) -> list[yaml.Node]:
    """The nodes of a list, or of a map whose keys are 0, 1, 2 ... in any order."""
    if isinstance(names, yaml.SequenceNode):
        return names.value
    if not isinstance(names, yaml.MappingNode):
        raise UserError(f"{file}: names is '{names.value:.80}', a text; {NAMES}")
    keys = [str(key.value)[:40] for key, _ in names.value]
    wanted = [str(number) for number in range(len(keys))]
    if sorted(keys) != sorted(wanted):
        raise UserError(f"{file}: names has the keys {', '.join(keys[:20])}; {NAMES}")
    nodes = dict(zip(keys, (node for _, node in names.value), strict=True))
    return [nodes[number] for number in wanted]
