"""CVAT's own annotations ("CVAT for images" 1.1): one XML file for many images."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from detect.datasets import cvat_xml
from detect.datasets.boxes import is_flat
from detect.datasets.cvat_xml import Image
from engine.config.ranges import PartialShare, Seed
from engine.data.image import IMAGE_SUFFIXES
from engine.data.image_dataset import (
    ImageDataset,
    check_classes,
    escapes_root,
    label_of,
    require_dir,
)
from engine.data.image_names import ImageNames, folder_below
from engine.data.index import Entry, Index, Object
from engine.data.splits import find_split
from engine.data.tree import files_below, split_named
from engine.errors import UserError

FILE, IMAGES = "annotations.xml", "images"


class CVAT(ImageDataset):
    """Images and boxes of one split: of a project's subset, of a file a split, or a share.

    Polygons, ellipses, masks, cuboids and turned boxes give the box around them; points have none
    and are left out, as are images on disk that the file does not list.

    Args:
        root: the folder of the images.
        annotations: the XML file, or a file a split by its name; None: annotations.xml in `root`,
            or the only XML file there.
        splits: a folder of <split>.txt that name images of a set in one piece.
        val_share: of train, held out as "val" where there is no such split.
        seed: of that choice.
        classes: in the order of the labels; None: all labels of shapes, sorted.
        view, on_error: see `ImageDataset`.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str,
        annotations: str | dict[str, str] | None = None,
        splits: str | None = None,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        classes: list[str] | None = None,
        view: str = "all",
        on_error: str = "fail",
    ) -> None:
        super().__init__(view=view, on_error=on_error)
        base = require_dir(root)
        self.folder, self._names = str(base), ImageNames(str(base))
        self._around = self._tags = 0
        files = _files(base, annotations)
        every = {name: list(cvat_xml.images(file)) for name, file in files.items()}
        own = set(files) if "" not in files else _subsets(every[""])
        how = find_split(split, root=base, own=own, lists=splits, val_share=val_share)
        if classes is None:
            classes = _class_names(image for images in every.values() for image in images)
        self.classes = check_classes(classes)
        source = how.source if how.source in files else ""
        chosen = every[source]
        if own and not source:
            chosen = [image for image in chosen if split_named(image.subset) == how.source]
        self._note_others(list(every.values()), own if not source else set())
        self.index = Index.of(self._entries(files[source], chosen))
        self._note_shapes()
        self.check_boxes()
        self.select_split(how, split, val_share, seed)

    def _entries(self, file: Path, images: Iterable[Image]) -> Iterator[Entry]:
        labels = {name: label for label, name in enumerate(self.classes)}
        beside, seen = folder_below(file.parent, self.folder), set()
        for number, image in enumerate(images, 1):
            try:
                name = self._find(image, beside)
                if name in seen:
                    raise ValueError(f"{name} is there already")
            except ValueError as error:
                self.leave_out(file, number, str(error), "image")
                continue
            seen.add(name)
            yield Entry(name, list(self._objects(file, image, labels)), image.size)

    def _find(self, image: Image, beside: str) -> str:
        """The path of an image: as its name says from the file, or from images/ beside it, on."""
        if image.name and not escapes_root(image.name):
            for place in ("", IMAGES, f"{IMAGES}/{image.subset}"):
                path = os.path.normpath(os.path.join(beside, place, image.name))
                if os.path.isfile(os.path.join(self.folder, path)):
                    return path
        return self._names.find(image.name, beside)

    def _objects(self, file: Path, image: Image, labels: dict[str, int]) -> Iterator[Object]:
        """The good shapes of one image."""
        for shape in image.shapes:
            if shape.kind == cvat_xml.IMAGE_LABEL:
                self._tags += 1
                continue
            try:
                if not shape.label:
                    raise ValueError(f"a <{shape.kind}> without a label")
                box, label = cvat_xml.box_of(shape), label_of(shape.label, labels)
            except ValueError as error:
                self.leave_out(file, shape.number, f"{image.name}: {error}", "shape")
                continue
            self._around += not shape.is_upright_box
            yield box, label, is_flat(self, file, shape.number, box, image.size)

    def _note_others(self, files: list[list[Image]], subsets: set[str]) -> None:
        """Count the images that are of no split."""
        stray = sum(not image.subset for image in files[0]) if subsets else 0
        if stray:
            self.notes.append(f"{stray} images are in no subset, the others are: left out")
        bare = len(files_below(self.folder, IMAGE_SUFFIXES)) - sum(map(len, files))
        if bare > 0:
            self.notes.append(f"{bare} images in {self.folder} are not in the XML: left out")

    def _note_shapes(self) -> None:
        if self._around:
            self.notes.append(f"{self._around} shapes are no upright boxes: the box around each")
        if self._tags:
            self.notes.append(f"{self._tags} tags of whole images have no box: passed over")


def _files(base: Path, annotations: str | Mapping[str, str] | None) -> dict[str, Path]:
    """The files by split; of one for all splits by ""."""
    if isinstance(annotations, Mapping) and annotations:
        return {str(split): Path(file).expanduser() for split, file in annotations.items()}
    if isinstance(annotations, str):
        return {"": Path(annotations).expanduser()}
    found = [base / FILE] if (base / FILE).is_file() else sorted(base.glob("*.xml"))
    if len(found) != 1:
        raise UserError(
            f"dataset.root={base}: {len(found)} XML files in it, expected {FILE}, or set "
            "dataset.annotations=FILE"
        )
    return {"": found[0]}


def _subsets(images: Iterable[Image]) -> set[str]:
    """The splits that the images' subsets are; none where no image trains."""
    found = {split_named(image.subset) for image in images} - {""}
    return found if "train" in found else set()


def _class_names(images: Iterable[Image]) -> list[str]:
    """The labels of all shapes that have a box, sorted."""
    shapes = (shape for image in images for shape in image.shapes)
    names = {shape.label for shape in shapes if shape.kind != cvat_xml.IMAGE_LABEL} - {""}
    if not names:
        raise UserError("dataset: no shape with a label in the XML, so no class")
    return sorted(names)
