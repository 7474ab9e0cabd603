"""PASCAL VOC's layout: JPEGImages/, Annotations/*.xml and ImageSets/Main/<split>.txt.

Coordinates stay as the files hold them, 1-based with both ends inside, because that is what the
devkit's metric counts with; as continuous coordinates they are off by at most one pixel.
Of 70,776 boxes of VOC2007 and VOC2012 none leaves its image, none is without area.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from detect.datasets import boxes
from engine.config.ranges import PartialShare, Seed
from engine.data.image import IMAGE_SUFFIXES
from engine.data.image_dataset import ImageDataset, check_classes, escapes_root, label_of
from engine.data.index import Entry, Index, Object
from engine.data.splits import find_split, list_rows
from engine.errors import UserError
from engine.regular_file import is_file_name, read_regular

IMAGES, ANNOTATIONS, LISTS = LAYOUT = ("JPEGImages", "Annotations", "ImageSets/Main")

LARGEST_XML = 2**24  # bytes, of one image's annotation


class VOC(ImageDataset):
    """Images and boxes of one split, `ImageSets/Main/<split>.txt`.

    Difficult objects, and boxes without area or outside their image, are kept with `ignore`:
    neither trained nor scored. Such boxes, and those that leave the image (kept as they are), are
    reported. Without the folder JPEGImages the truth alone can be read.

    Args:
        root: the folder with the three folders, or one above a single VOC* folder.
        split: any name in ImageSets/Main, per-class lists such as `cat_train` included.
        splits: another folder of lists.
        val_share: of train, held out as "val" where there is no list of that name.
        seed: of that choice.
        classes: in the order of the labels; None: all names in Annotations, so all splits agree.
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
        needed = (ANNOTATIONS,) if splits else (ANNOTATIONS, LISTS)
        self._base = _voc_folder(Path(root).expanduser(), needed)
        self.folder = str(self._base / IMAGES)
        self.classes = check_classes(_class_names(self._base) if classes is None else classes)
        lists = splits or str(self._base / LISTS)
        how = find_split(split, root=self._base, own=(), lists=lists, val_share=val_share)
        file = Path(lists).expanduser() / f"{how.source}.txt"
        self.index = Index.of(self._entries(file))
        if not len(self):
            raise UserError(f"{file}: no image to use; expected one name a row")
        self.check_pixels()
        self.select_split(how._replace(list=None), split, val_share, seed)

    def _entries(self, split_file: Path) -> Iterator[Entry]:
        labels = {name: label for label, name in enumerate(self.classes)}
        for file, annotation in self._images(split_file):
            try:
                root = _parse(annotation)
            except ValueError as error:
                self.leave_out(annotation, None, str(error))
                continue
            size = _size(root)
            yield Entry(file, list(self._objects(root, annotation, labels, size)), size)

    def _images(self, split_file: Path) -> Iterator[tuple[str, Path]]:
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
                yield file, self._base / ANNOTATIONS / f"{name}.xml"

    def _image_names(self) -> dict[str, str] | None:
        """File names by stem; None where the set comes without its images."""
        if not Path(self.folder).is_dir():
            self.notes.append(f"no folder {self.folder}: the truth alone can be read")
            return None
        found = sorted(Path(self.folder).iterdir(), reverse=True)
        return {p.stem: p.name for p in found if p.suffix.lower() in IMAGE_SUFFIXES}

    def _objects(
        self, root: ET.Element, file: Path, labels: dict[str, int], size: tuple[int, int] | None
    ) -> Iterator[Object]:
        """The good rows of one annotation."""
        for number, thing in enumerate(root.findall("object"), 1):
            try:
                box, label = _box(thing), label_of(_name(thing), labels)
            except ValueError as error:
                self.leave_out(file, number, str(error), "object")
                continue
            flat = boxes.is_flat(self, file, number, box, size)
            yield box, label, flat or thing.findtext("difficult", "0").strip() == "1"


def _voc_folder(root: Path, needed: Sequence[str]) -> Path:
    """The one folder at `root` or below it that has the folders `needed`."""
    below = sorted([*root.glob("VOC*"), *root.glob("VOC*/VOC*")])
    fits = [f for f in [root, *below] if all((f / p).is_dir() for p in needed)]
    if len(fits) == 1 or root in fits:
        return fits[0]
    if fits:
        raise UserError(
            f"dataset.root={root} holds {len(fits)} VOC folders: {', '.join(map(str, fits))}; "
            "name one of them"
        )
    names = sorted(p.name for p in root.iterdir())[:10] if root.is_dir() else None
    found = f"found {', '.join(names) or 'nothing'}" if names is not None else "no such folder"
    raise UserError(
        f"dataset.root={root}: {found}; expected a folder with {', '.join(LAYOUT)}, "
        "such as VOCdevkit/VOC2012"
    )


def _class_names(folder: Path) -> list[str]:
    """Every object's name in every annotation; files that cannot be parsed are passed over."""
    names = set()
    for file in (folder / ANNOTATIONS).glob("*.xml"):
        try:
            names.update(_name(thing) for thing in _parse(file).findall("object"))
        except ValueError:
            continue  # its own split reports it
    if not names - {""}:
        raise UserError(f"{folder / ANNOTATIONS}: no object in any *.xml file, so no class")
    return sorted(names - {""})


def _parse(file: Path) -> ET.Element:
    """The root of an annotation; ValueError where it cannot be used, with the reason."""
    try:
        data = read_regular(file, LARGEST_XML)
        # Entities, which can blow up to gigabytes, need a DOCTYPE; VOC has none. UTF-16 has zeros.
        if b"<!DOCTYPE" in data.replace(b"\0", b""):
            raise ValueError("a DOCTYPE is refused, as it can define entities without end")
        root = ET.fromstring(data)
    except OSError as error:
        raise ValueError(error.strerror) from error
    except (ET.ParseError, LookupError) as error:  # LookupError: of an unknown encoding
        raise ValueError(f"not XML ({error})") from error
    if root.tag != "annotation":
        raise ValueError(f"expected <annotation> as the root, got <{root.tag}>")
    return root


def _box(thing: ET.Element) -> tuple[float, ...]:
    """The object's own `<bndbox>`: those of a person's `<part>`s lie deeper."""
    texts = [thing.findtext(f"bndbox/{corner}") for corner in boxes.CORNERS]
    if None in texts:
        raise ValueError(f"no <bndbox> with <{boxes.CORNERS[texts.index(None)]}>")
    return boxes.check_corners(boxes.numbers(texts, boxes.CORNERS))


def _name(thing: ET.Element) -> str:
    return thing.findtext("name", "").strip()


def _size(root: ET.Element) -> tuple[int, int] | None:
    """Declared (height, width), where both are there and above 0."""
    try:
        height, width = (int(float(root.findtext(f"size/{s}", ""))) for s in ("height", "width"))
    except (ValueError, OverflowError):
        return None
    return (height, width) if min(height, width) > 0 else None
