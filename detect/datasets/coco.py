"""COCO's annotation format (https://cocodataset.org/#format-data), boxes only."""

import re
from pathlib import Path

import numpy as np

from detect.datasets.boxes import OUTSIDE
from detect.datasets.coco_file import COCOFile
from engine.config.ranges import PartialShare, Seed
from engine.data.image_dataset import ImageDataset, check_classes, require_dir
from engine.data.index import Index, file_names
from engine.data.splits import find_split
from engine.errors import UserError, did_you_mean
from engine.record import is_outside

FILES, BESIDE = "annotations/instances_*.json", "*/_annotations.coco.json"
SLACK = 1.0  # pixels that the boxes of 2017 reach over the border by rounding


class COCO(ImageDataset):
    """Images and boxes of a split, from COCO's JSON.

    Images stand in the order of their ids and classes in the order of theirs, as in pycocotools,
    so that equal scores rank alike; a record's id is the file's image id. Crowds, and boxes without
    area or outside their image, are kept and ignored; such boxes are in `report`, whose row is
    the annotation's id.

    Args:
        root: holds annotations/instances_<name>.json and the images in a folder <name>, below
            `root` or `root`/images; a split is a <name> that begins with it, as train2017. Or, as
            Roboflow exports it, <split>/_annotations.coco.json beside the images.
        annotations: a file instead, of a set in one piece.
        images: the folder of its images, or None where only the truth matters.
        split: None takes all of `annotations`.
        splits: a folder of <split>.txt that name images of `annotations`.
        val_share: of train, held out as "val" where there is no such split.
        seed: of that choice.
        classes: in the order of the labels; None: all categories, by id.
        view, on_error: see `ImageDataset`.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        annotations: str | None = None,
        images: str | None = None,
        split: str | None = None,
        splits: str | None = None,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        classes: list[str] | None = None,
        view: str = "all",
        on_error: str = "fail",
    ) -> None:
        super().__init__(view=view, on_error=on_error)
        images, annotations = (x and str(Path(x).expanduser()) for x in (images, annotations))
        if images is not None and not Path(images).is_dir():
            raise UserError(f"images: got {images}, expected a folder of images: check the path")
        if (root is None) == (annotations is None):
            raise UserError("dataset.root=FOLDER or dataset.annotations=FILE: set one of them")
        if split is None:  # `truth=` of eval.py, which has no key on_error
            self.mend = "mend or remove it"
        own = {} if root is None else _own(require_dir(root))
        how = find_split(
            split or "train",
            root=str(root or annotations),
            own=own,
            lists=splits,
            val_share=val_share if split else 0,
        )
        self.file = str(own[how.source] if root else annotations)
        self.folder = images or (_folder_of(Path(self.file)) if root else "")
        self.stored = bool(self.folder)  # else `image` raises a UserError
        self._fill(COCOFile(self, self.file), classes)
        self.check_boxes()
        self.select_split(how, split or "train", val_share, seed)

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        if not self.folder:
            raise UserError(f"{self.file}: got no folder of images, expected one: set images")
        return super().image(index)

    def _fill(self, found: COCOFile, classes: list[str] | None) -> None:
        """Sort the annotations by image, and leave out those of unknown images and categories."""
        self.categories = _choose(found.categories, classes, self.file)
        self.classes = [found.categories[number] for number in self.categories]
        order = np.argsort(found.ids)
        ids, names = found.ids[order], [found.names[i] for i in order]
        sorts = np.argsort(found.key[:, 1], kind="stable")  # sorted, they are looked up at once
        key = found.key[sorts]
        image = self._rows(key, 1, ids)
        label = self._rows(key, 2, np.array(self.categories, np.int64))
        kept = np.flatnonzero((image >= 0) & (label >= 0))
        image, label, number, sorts = image[kept], label[kept], key[kept, 0], sorts[kept]
        flat = (found.boxes[:, 2:] == found.boxes[:, :2]).any(1)
        self.index = Index(
            files=file_names(names),
            first=np.searchsorted(image, np.arange(len(ids) + 1)),
            labels=label,
            boxes=found.boxes[sorts],
            ignore=(found.crowd | flat)[sorts],
            area=found.area[sorts],
            size=found.size[order],
            ids=ids,
        )
        self._report_outside(image, number)

    def _rows(self, key: np.ndarray, column: int, known: np.ndarray) -> np.ndarray:
        """The place in `known` of each value in a column of `key` [M, 3]: [M], else -1."""
        values, order = key[:, column], np.argsort(known)
        at = np.searchsorted(known[order], values).clip(max=len(known) - 1)
        rows = np.where(known[order[at]] == values, order[at], -1) if len(known) else at - 1
        name = ("id", "image_id", "category_id")[column]
        for row in key[rows < 0].tolist():
            reason = f"got {name} {row[column]}, expected one that the file lists"
            self.leave_out(self.file, row[0], reason, "annotation")
        return rows

    def _report_outside(self, image: np.ndarray, number: np.ndarray) -> None:
        """Report the boxes that leave the declared size of their image."""
        boxes, size = self.index.boxes, self.index.size
        if boxes is None or size is None or not len(size):
            return
        side = size[image][:, ::-1]  # [M, 2] width, height
        out = (boxes[:, :2] < -SLACK) | ((boxes[:, 2:] > side + SLACK) & (side > 0))
        rows = np.flatnonzero(out.any(1))
        for i, gone in zip(rows, is_outside(boxes[rows], size[image[rows]]), strict=True):
            box = ", ".join(f"{value:g}" for value in boxes[i])
            how, action = ("lies outside", OUTSIDE) if gone else ("leaves", "kept")
            reason = f"box with the corners [{box}] {how} the image"
            self.note_defect(self.file, int(number[i]), reason, action)


def _own(root: Path) -> dict[str, Path]:
    """The files below a folder by their split: by the name, and without the year that ends it."""
    files = sorted(root.glob(FILES))
    if beside := sorted(root.glob(BESIDE)):
        return {file.parent.name: file for file in beside}
    if not files:
        raise UserError(
            f"dataset.root={root}: expected {FILES} or {BESIDE} in it; or set "
            "dataset.annotations=FILE dataset.images=FOLDER"
        )
    names = {_name(file): file for file in files}
    short = [re.sub(r"_?\d{4}$", "", name) for name in names]
    once = {s: f for s, f in zip(short, files, strict=True) if short.count(s) == 1}
    return once | names


def _name(file: Path) -> str:
    return file.stem.removeprefix("instances_")


def _folder_of(file: Path) -> str:
    """The images of root/annotations/instances_<name>.json: root/<name> or root/images/<name>.

    Those of root/<split>/_annotations.coco.json lie beside it.
    """
    if file.name == Path(BESIDE).name:
        return str(file.parent)
    root, name = file.parent.parent, _name(file)
    below = root / "images" / name
    return str(below if below.is_dir() else root / name)


def _choose(names: dict[int, str], classes: list[str] | None, file: str) -> list[int]:
    """The category of each label."""
    if classes is None:
        return list(names)
    numbers = {name: number for number, name in names.items()}
    for name in check_classes(classes):
        if name not in numbers:
            hint = did_you_mean(name, numbers)
            raise UserError(f"dataset.classes: {file} has no category '{name}'{hint}")
    return [numbers[str(name)] for name in classes]
