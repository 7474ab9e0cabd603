"""PASCAL VOC's layout: JPEGImages/, Annotations/*.xml and ImageSets/Main/<split>.txt.

Coordinates stay as the files hold them, 1-based with both ends inside, because that is what the
devkit's metric counts with; as continuous coordinates they are off by at most one pixel.
Of 70,776 boxes of VOC2007 and VOC2012 none leaves its picture, none is without area.
"""

import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.data import views
from engine.data.image import IMAGE_SUFFIXES, read_rgb
from engine.errors import UserError, did_you_mean
from engine.structures import Record

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LAYOUT = ("JPEGImages", "Annotations", "ImageSets/Main")

Box = tuple[float, ...]  # xyxy, pixels of the original picture
Row = tuple[Box, int, bool]  # box, label, ignore


class VOC:
    """Pictures and boxes of one split, `ImageSets/Main/<split>.txt`.

    Difficult objects and boxes without area are kept with `ignore`: neither trained nor scored.
    Boxes without area, and boxes that leave the picture (kept as they are), are reported.

    Args:
        root: the folder with the three folders, or one above a single VOC* folder.
        split: any name in ImageSets/Main, per-class lists such as `cat_train` included.
        classes: in the order of the labels; None: all names in Annotations, so all splits agree.
        view: what of the truth `record` says, see `engine.data.views`: all, largest, multilabel.
        on_error: what a bad row or picture does: "fail" stops, "skip" leaves it out and reports it.
    """

    stored = True

    def __init__(
        self,
        *,
        root: str,
        split: str,
        classes: list[str] | None = None,
        view: str = "all",
        on_error: str = "fail",
    ) -> None:
        if on_error not in ("fail", "skip"):
            raise UserError(f"dataset.on_error is '{on_error}', expected 'fail' or 'skip'")
        self.report: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.on_error, self.view = on_error, views.check_view(view)
        self._folder = _voc_folder(Path(root).expanduser())
        self.classes = _class_names(self._folder) if classes is None else [str(c) for c in classes]
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise UserError(f"dataset.classes must name each class once, got {self.classes}")
        self._index(_split_file(self._folder, split))

    def __len__(self) -> int:
        return len(self._files)

    def record(self, index: int) -> Record:
        """The truth about one picture; its id is the name in the split's file."""
        file = str(self._files[index])
        path = f"{self._folder}/JPEGImages/{file}"
        mine = slice(self._start[index], self._start[index + 1])
        row = self._labels[mine], self._boxes[mine], self._ignore[mine]
        height, width = self._sizes[index].tolist()
        size = (height, width) if height and width else None
        return views.view(Record(os.path.splitext(file)[0], path, *row, size=size), self.view)

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB, upright."""
        return read_rgb(self.record(index).path)

    def _index(self, split_file: Path) -> None:
        """Read every annotation of the split into flat arrays, which workers share."""
        files, sizes, counts, rows = [], [], [0], []
        for file, annotation in self._pictures(split_file):
            try:
                root = _parse(annotation)
            except ValueError as error:
                self._leave_out(annotation, None, str(error))
                continue
            rows += self._objects(root, annotation)
            files.append(file)
            sizes.append(_size(root))
            counts.append(len(rows))
        if not files:
            raise UserError(f"{split_file}: no picture to use; expected one name a row")
        boxes, labels, ignore = zip(*rows, strict=True) if rows else ((), (), ())
        self._files = np.array(files)  # [N]
        self._sizes = np.array(sizes, np.int32)  # [N, 2] declared (height, width), 0 where not
        self._start = np.array(counts)  # [N + 1] row of each picture's first object
        self._boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self._labels = np.array(labels, np.int64)
        self._ignore = np.array(ignore, bool)

    def _pictures(self, split_file: Path) -> Iterator[tuple[str, Path]]:
        """Picture file and annotation of each row of the split's file."""
        found = sorted((self._folder / "JPEGImages").iterdir(), reverse=True)
        pictures = {p.stem: p.name for p in found if p.suffix.lower() in IMAGE_SUFFIXES}
        # As the file system itself reads names, so that any name can match.
        text = split_file.read_text("utf-8-sig", errors="surrogateescape")
        seen: dict[str, int] = {}
        for number, row in enumerate(text.splitlines(), 1):
            if not row.strip():
                continue
            # A per-class list has a flag behind the name: "2008_000008 -1".
            name = row.strip() if row.strip() in pictures else row.split()[0]
            if name not in pictures:
                self._leave_out(split_file, number, f"no picture JPEGImages/{name}.jpg (or .png)")
            elif name in seen:
                self._leave_out(split_file, number, f"{name} stands in row {seen[name]} already")
            else:
                seen[name] = number
                yield pictures[name], self._folder / "Annotations" / f"{name}.xml"

    def _objects(self, root: ET.Element, file: Path) -> list[Row]:
        """The good rows of one annotation."""
        labels = {name: label for label, name in enumerate(self.classes)}
        rows = []
        for number, thing in enumerate(root.findall("object"), 1):
            try:
                box, label = _box(thing), _label(thing, labels)
            except ValueError as error:
                self._leave_out(file, number, str(error))
                continue
            flat = box[0] == box[2] or box[1] == box[3]
            if flat:
                self._tell(file, number, f"box {_show(box)} has no area", "ignored")
            elif _leaves(box, _size(root)):
                self._tell(file, number, f"box {_show(box)} leaves the picture", "kept")
            rows.append((box, label, flat or thing.findtext("difficult", "0").strip() == "1"))
        return rows

    def _leave_out(self, file: Path, row: int | None, reason: str) -> None:
        if self.on_error == "fail":
            unit = "object" if file.suffix == ".xml" else "row"
            where = file if row is None else f"{file}, {unit} {row}"
            raise UserError(f"{where}: {reason}; mend it, or leave it out: dataset.on_error=skip")
        self._tell(file, row, reason, "left out")

    def _tell(self, file: Path, row: int | None, reason: str, action: str) -> None:
        self.report.append({"file": str(file), "row": row, "reason": reason, "action": action})


def _voc_folder(root: Path) -> Path:
    """The one folder in VOC's layout at `root` or below it."""
    below = sorted([*root.glob("VOC*"), *root.glob("VOC*/VOC*")])
    fits = [f for f in [root, *below] if all((f / part).is_dir() for part in LAYOUT)]
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


def _split_file(folder: Path, split: str) -> Path:
    file = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not file.is_file():
        known = sorted(p.stem for p in file.parent.glob("*.txt"))
        plain = [name for name in known if "_" not in name] or known  # not the per-class lists
        raise UserError(
            f"no split '{split}': {file} does not exist; there are "
            f"{', '.join(plain) or 'none'}{did_you_mean(split, known)}"
        )
    return file


def _class_names(folder: Path) -> list[str]:
    """Every object's name in every annotation; a file that cannot be parsed has no say."""
    names = set()
    for file in (folder / "Annotations").glob("*.xml"):
        try:
            names.update(_name(thing) for thing in _parse(file).findall("object"))
        except ValueError:
            continue  # its own split reports it
    if not names - {""}:
        raise UserError(f"{folder / 'Annotations'}: no object in any *.xml file, so no class")
    return sorted(names - {""})


def _parse(file: Path) -> ET.Element:
    """The root of an annotation; ValueError says why it cannot be used."""
    try:
        data = file.read_bytes()
        # Entities, which can blow up to gigabytes, need a DOCTYPE; VOC has none. UTF-16 has zeros.
        if b"<!DOCTYPE" in data.replace(b"\0", b""):
            raise ValueError("a DOCTYPE is refused, as it can define entities without end")
        root = ET.fromstring(data)
    except OSError as error:
        raise ValueError(error.strerror) from error
    except ET.ParseError as error:
        raise ValueError(f"not XML ({error})") from error
    if root.tag != "annotation":
        raise ValueError(f"expected <annotation> as the root, got <{root.tag}>")
    return root


def _box(thing: ET.Element) -> Box:
    """The object's own `<bndbox>`: those of a person's `<part>`s lie deeper."""
    texts = [thing.findtext(f"bndbox/{corner}") for corner in CORNERS]
    box = tuple(_number(corner, text) for corner, text in zip(CORNERS, texts, strict=True))
    if box[0] > box[2] or box[1] > box[3]:
        raise ValueError(f"box {_show(box)} is inverted, expected xmin < xmax and ymin < ymax")
    return box


def _number(corner: str, text: str | None) -> float:
    if text is None:
        raise ValueError(f"no <bndbox> with <{corner}>")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{corner} is '{text.strip()}', expected a number")
    return value


def _name(thing: ET.Element) -> str:
    return thing.findtext("name", "").strip()


def _label(thing: ET.Element, labels: dict[str, int]) -> int:
    name = _name(thing)
    if name not in labels:
        hint = did_you_mean(name, labels)
        raise ValueError(f"unknown class '{name}', expected one of {', '.join(labels)}{hint}")
    return labels[name]


def _size(root: ET.Element) -> tuple[int, int]:
    """(height, width) that the annotation declares, (0, 0) where it declares none."""
    try:
        height, width = (int(float(root.findtext(f"size/{s}", ""))) for s in ("height", "width"))
    except (ValueError, OverflowError):
        return (0, 0)
    return (height, width) if 0 < min(height, width) <= max(height, width) < 2**31 else (0, 0)


def _leaves(box: Box, size: tuple[int, int]) -> bool:
    """Whether the box leaves the declared size, where there is one."""
    height, width = size
    return min(box) < 0 or box[2] > width > 0 or box[3] > height > 0


def _show(box: Box) -> str:
    return " ".join(f"{corner}={value:g}" for corner, value in zip(CORNERS, box, strict=True))
