"""PASCAL VOC's annotations: an XML file an image.

Its own layout is JPEGImages/, Annotations/*.xml and ImageSets/Main/<split>.txt. Without lists
every XML file counts, wherever its image lies: beside it (LabelImg, Roboflow, CVAT) or elsewhere.

Coordinates stay as the files hold them, 1-based with both ends inside, because that is what the
devkit's metric counts with; as continuous coordinates they are off by at most one pixel.
Of 70,776 boxes of VOC2007 and VOC2012 none leaves its image, none is without area.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from detect.datasets import boxes
from detect.datasets.pairs import Pairs, choose_pairs, find_pairs
from detect.datasets.voc_xml import box_of, name_of, parse, size_of
from engine.config.ranges import PartialShare, Seed
from engine.data.image import IMAGE_SUFFIXES
from engine.data.image_dataset import ImageDataset, check_classes, escapes_root, label_of
from engine.data.index import Entry, Index, Object
from engine.data.splits import SplitSource, find_split, list_rows
from engine.data.tree import is_visible
from engine.errors import UserError
from engine.regular_file import is_file_name

IMAGES, ANNOTATIONS, LISTS = LAYOUT = ("JPEGImages", "Annotations", "ImageSets/Main")


class VOC(ImageDataset):
    """Images and boxes of one split: of a list, of a folder train, val or test, or a share.

    Difficult objects, and boxes without area or outside their image, are kept with `ignore`:
    neither trained nor scored. Such boxes, and those that leave the image (kept as they are), are
    reported. Of VOC's own layout the truth alone can be read, without the folder JPEGImages.

    Args:
        root: the folder with VOC's three folders, or one above a single VOC* folder; or any folder
            of images with an XML file each, beside them, in another folder or in sub-folders.
        split: any name in ImageSets/Main, per-class lists such as `cat_train` included.
        splits: another folder of lists, which also divide a set without folders of splits.
        val_share: of train, held out as "val" where there is no split of that name.
        seed: of that choice.
        classes: in the order of the labels; None: all names in the XML, so all splits agree.
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
        share, base = val_share, Path(root).expanduser()
        own = voc_folder(base, (ANNOTATIONS, IMAGES) if splits else (ANNOTATIONS, LISTS))
        if own is None:
            how = self._read_pairs(base, split, splits, share, classes)
        else:
            self.folder = str(own / IMAGES)
            self._choose(classes, (own / ANNOTATIONS).glob("*.xml"))
            lists = splits or str(own / LISTS)
            how = find_split(split, root=own, own=(), lists=lists, val_share=share)
            file = Path(lists).expanduser() / f"{how.source}.txt"
            self.index = Index.of(self._entries(self._images(file, own / ANNOTATIONS)))
            if not len(self):
                raise UserError(f"{file}: no image to use; expected one name a row")
            how = how._replace(list=None)
        self.check_boxes()
        self.select_split(how, split, val_share, seed)

    def _choose(self, classes: list[str] | None, annotations: Iterable[Path]) -> None:
        self.classes = check_classes(_class_names(annotations) if classes is None else classes)

    def _read_pairs(
        self, root: Path, split: str, lists: str | None, share: float, classes: list[str] | None
    ) -> SplitSource:
        """Read the annotations of a folder without ImageSets; where the split comes from."""
        found = find_pairs(root, ".xml") if root.is_dir() else Pairs({}, 0)
        if not any(pair.image for pairs in found.splits.values() for pair in pairs):
            raise _no_voc(root)
        self.folder = str(root)
        self._choose(classes, (root / p.annotation for ps in found.splits.values() for p in ps))
        how, pairs = choose_pairs(self, found, root, split, lists, share)
        named = ((pair.image, root / pair.annotation) for pair in pairs if pair.image)
        self.index = Index.of(self._entries(named))
        return how

    def _entries(self, images: Iterable[tuple[str, Path]]) -> Iterator[Entry]:
        labels = {name: label for label, name in enumerate(self.classes)}
        for file, annotation in images:
            try:
                root = parse(annotation)
            except ValueError as error:
                self.leave_out(annotation, None, str(error))
                continue
            size = size_of(root)
            yield Entry(file, list(self._objects(root, annotation, labels, size)), size)

    def _images(self, split_file: Path, annotations: Path) -> Iterator[tuple[str, Path]]:
        """Image file and annotation of each row of the split's file."""
        images = self._image_names()
        seen: dict[str, int] = {}
        for number, row in list_rows(split_file):
            # A per-class list has a flag behind the name: "2008_000008 -1".
            name = row if images and row in images else row.split()[0]
            if not is_file_name(name):
                self.leave_out(split_file, number, f"'{name}': no file can have this name")
            elif escapes_root(name):
                self.leave_out(split_file, number, f"'{name}' leaves the folder")
            elif images is not None and name not in images:
                stem = PurePath(name).stem
                hint = f"; names stand without ending: {stem}" if stem in images else ""
                reason = f"no image JPEGImages/{name}.jpg (or .png){hint}"
                self.leave_out(split_file, number, reason)
            elif name in seen:
                self.leave_out(split_file, number, f"{name} is in row {seen[name]} already")
            else:
                seen[name] = number
                file = images[name] if images else f"{name}.jpg"
                yield file, annotations / f"{name}.xml"

    def _image_names(self) -> dict[str, str] | None:
        """File names by stem; None where the set comes without its images."""
        if not Path(self.folder).is_dir():
            self.notes.append(f"no folder {self.folder}: the truth alone can be read")
            return None
        found = sorted(Path(self.folder).iterdir(), reverse=True)
        return {
            p.stem: p.name
            for p in found
            if p.suffix.lower() in IMAGE_SUFFIXES and is_visible(p.name)
        }

    def _objects(
        self, root: ET.Element, file: Path, labels: dict[str, int], size: tuple[int, int] | None
    ) -> Iterator[Object]:
        """The good rows of one annotation."""
        for number, thing in enumerate(root.findall("object"), 1):
            try:
                box, label = box_of(thing), label_of(name_of(thing), labels)
            except ValueError as error:
                self.leave_out(file, number, str(error), "object")
                continue
            flat = boxes.is_flat(self, file, number, box, size)
            yield box, label, flat or thing.findtext("difficult", "0").strip() == "1"


def voc_folder(root: Path, needed: Sequence[str]) -> Path | None:
    """The one folder at `root` or below it that has the folders `needed`; None without one."""
    below = sorted([*root.glob("VOC*"), *root.glob("VOC*/VOC*")])
    fits = [f for f in [root, *below] if all((f / p).is_dir() for p in needed)]
    if len(fits) > 1 and root not in fits:
        raise UserError(
            f"dataset.root={root} holds {len(fits)} VOC folders: {', '.join(map(str, fits))}; "
            "name one of them"
        )
    return None if not fits else root if root in fits else fits[0]


def _no_voc(root: Path) -> UserError:
    names = sorted(p.name for p in root.iterdir())[:10] if root.is_dir() else None
    found = f"found {', '.join(names) or 'nothing'}" if names is not None else "no such folder"
    return UserError(
        f"dataset.root={root}: {found}; expected a folder with {', '.join(LAYOUT)}, "
        "such as VOCdevkit/VOC2012, or images with an XML file each"
    )


def _class_names(annotations: Iterable[Path]) -> list[str]:
    """Every object's name in these files; those that cannot be parsed are passed over."""
    names, place = set(), Path()
    for file in annotations:
        place = file.parent
        try:
            names.update(name_of(thing) for thing in parse(file).findall("object"))
        except ValueError:
            continue  # its own split reports it
    if not names - {""}:
        raise UserError(f"{place}: no object in any *.xml file, so no class")
    return sorted(names - {""})
