"""COCO's annotation format (https://cocodataset.org/#format-data), boxes only."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detect.datasets.boxes import OUTSIDE
from detect.datasets.coco_file import COCOFile
from detect.datasets.coco_layout import by_split, images_of, own_files
from engine.config.ranges import PartialShare, Seed
from engine.data.image_dataset import (
    ImageDataset,
    check_classes,
    escapes_root,
    plain_path,
    require_dir,
)
from engine.data.index import Index, file_names
from engine.data.splits import find_split
from engine.data.tree import find_below
from engine.errors import UserError, did_you_mean
from engine.record import is_outside

SAMPLE = 20  # images that show whether the names are paths below the folder
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
            Roboflow exports it, <split>/_annotations.coco.json beside the images; or any files of
            COCO's, with the splits in their names, or one of a set in one piece.
        annotations: a file instead, of a set in one piece, or a file a split by its name.
        images: the folder of the images, or one a split, or None where only the truth matters.
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
        annotations: str | dict[str, str] | None = None,
        images: str | dict[str, str] | None = None,
        split: str | None = None,
        splits: str | None = None,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        classes: list[str] | None = None,
        view: str = "all",
        on_error: str = "fail",
    ) -> None:
        super().__init__(view=view, on_error=on_error)
        folders, given = by_split("images", images), by_split("annotations", annotations)
        for folder in folders.values():
            if not Path(folder).is_dir():
                raise UserError(
                    f"images: got {folder}, expected a folder of images: check the path"
                )
        if (root is None) == (not given):
            raise UserError("dataset.root=FOLDER or dataset.annotations=FILE: set one of them")
        if split is None:  # `truth=` of eval.py, which has no key on_error
            self.mend = "mend or remove it"
        files = given or {k: str(f) for k, f in own_files(require_dir(str(root))).items()}
        how = find_split(
            split or "train",
            root=str(root or annotations),
            own={name for name in files if name},
            lists=splits,
            val_share=val_share if split else 0,
        )
        self.file = files[how.source if how.source in files else ""]
        found = images_of(Path(self.file), Path(str(root)).expanduser()) if root else ""
        self.folder = folders.get(how.source) or folders.get("") or found
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
        located = self._located(found.names)
        once = self._once(found.ids, located)
        order = once[np.argsort(found.ids[once])]
        ids, names = found.ids[order], [located[i] for i in order]
        sorts = np.argsort(found.key[:, 1], kind="stable")  # sorted, they are looked up at once
        key = found.key[sorts]
        image = self._rows(key, 1, ids)
        label = self._labels(key, [*found.categories])
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

    def _located(self, names: Sequence[str]) -> list[str]:
        """The names below the folder; those written with other folders in front, without these."""
        plain = [plain_path(self.folder, name) for name in names]
        if not self.folder:
            return plain
        as_they_are = all(self._is_file(name) for name in plain[:SAMPLE])
        return [
            name if (as_they_are and not escapes_root(name)) or self._is_file(name) else
            self._below(name) for name in plain
        ]  # fmt: skip

    def _is_file(self, name: str) -> bool:
        return not escapes_root(name) and os.path.isfile(os.path.join(self.folder, name))

    def _below(self, name: str) -> str:
        """The path of an image by the end of its name; the name where there is no such file."""
        found = find_below(Path(self.folder), name)
        return name if found is None else os.path.relpath(found, self.folder)

    def _once(self, ids: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """[N] places of the images; one whose file another has already is left out."""
        if len(set(names)) == len(names):
            return np.arange(len(names))
        first: dict[str, int] = {}
        for place, name in enumerate(names):
            if (other := first.setdefault(name, place)) != place:
                reason = f"file_name '{name}' is that of image {ids[other]} too: leave one of them"
                self.leave_out(self.file, int(ids[place]), reason, "image")
        return np.array([*first.values()], np.int64)

    def _labels(self, key: np.ndarray, categories: list[int]) -> np.ndarray:
        """[M] the label of each annotation; -1 where its category is unlisted or not chosen."""
        listed = self._rows(key, 2, np.array(categories, np.int64))
        label = {number: label for label, number in enumerate(self.categories)}
        found = np.array([*(label.get(number, -1) for number in categories), -1], np.int64)[listed]
        if other := int(((found < 0) & (listed >= 0)).sum()):
            self.notes.append(f"{other} objects are of categories that dataset.classes leaves out")
        return found

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
