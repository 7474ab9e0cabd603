"""Where the images of a set of YOLO's layout lie, and the rows of each."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from detect.datasets.yolo_names import Description
from engine.data.image import IMAGE_SUFFIXES
from engine.data.image_dataset import ImageDataset
from engine.data.splits import list_rows
from engine.data.tree import SPLITS, files_below, find_below, is_visible, split_of
from engine.errors import UserError

IMAGES, LABELS = "images", "labels"


class Part(NamedTuple):
    """The images of a split, or of a set in one piece."""

    folder: Path  # of the images
    labels: Path | None  # of the rows, at the same paths; None: beside each, or by its path
    places: tuple[Path, ...] = ()  # folders and lists of images; none: all of the folder


def find_parts(base: Path, about: Description, split: str) -> dict[str, Part]:
    """The parts by split; {"": part} of a set in one piece.

    A folder of images/ whose name is no split's is one where it is the `split` that is asked for.

    Raises:
        UserError: there are no images.
    """
    found = {k: _described(base, places) for k, places in about.splits.items() if places}
    if "train" not in found:
        found = {}
    same = [k for k in found if k != "train" and found[k] == found["train"]]
    taken = {SPLITS[name] for name in found}
    inside = {k: part for k, part in _folders(base).items() if SPLITS.get(k, k) not in taken}
    found = {k: part for k, part in found.items() if k not in same}
    if parts := found | inside:
        return parts
    if (asked := base / IMAGES / split).is_dir():
        return {split: _of_folder(asked)}
    if lists := _lists(base):
        return {name: Part(base, None, (file,)) for name, file in lists.items()}
    whole = base / IMAGES if (base / IMAGES).is_dir() else base
    if not files_below(whole, IMAGE_SUFFIXES):
        raise UserError(
            f"dataset.root={base}: expected {IMAGES}/<split>/ and {LABELS}/<split>/ in it, or "
            "images with a text file each"
        )
    return {"": _of_folder(whole)}


def images_of(data: ImageDataset, base: Path, part: Part) -> list[str]:
    """Paths of a part's images below its folder; rows of a list without an image are left out."""
    if not part.places:
        return files_below(part.folder, IMAGE_SUFFIXES)
    found: dict[str, tuple[Path, int]] = {}
    for place in part.places:
        if place.is_dir():
            names = files_below(place, IMAGE_SUFFIXES)
            found |= {os.path.relpath(place / name, part.folder): (place, 0) for name in names}
            continue
        for number, row in list_rows(place):
            path = _image(place, base, row)
            name = path and os.path.relpath(path, part.folder)
            if name is None:
                data.leave_out(place, number, f"no image {row} in {base}")
            elif name in found:
                data.leave_out(place, number, f"{row} is in row {found[name][1]} already")
            else:
                found[name] = (place, number)
    return list(found)


def rows_of(part: Part, image: str) -> Path:
    """The file that the rows of an image are in, whether or not it is there."""
    if part.labels is not None:
        return (part.labels / image).with_suffix(".txt")
    path = part.folder / image
    there = parallel(path)
    return there.with_suffix(".txt") if there.parent.is_dir() else path.with_suffix(".txt")


def parallel(path: Path) -> Path:
    """The path with its last folder `images` called `labels`."""
    parts = list(path.parts)
    at = [i for i, part in enumerate(parts) if part.lower() == IMAGES]
    if at:
        parts[at[-1]] = LABELS
    return Path(*parts)


def _described(base: Path, places: list[Path]) -> Part:
    if len(places) == 1 and places[0].is_dir():
        return _of_folder(places[0])
    return Part(base, None, tuple(places))


def _of_folder(folder: Path) -> Part:
    """The images of a folder; their rows lie parallel to them, or where none do beside them."""
    labels = parallel(folder)
    if labels == folder or not (_has_rows(labels) or not _has_rows(folder)):
        return Part(folder, folder)
    return Part(folder, labels)


def _has_rows(folder: Path) -> bool:
    return bool(folder.is_dir() and files_below(folder, [".txt"]))


def _folders(base: Path) -> dict[str, Part]:
    """The parts of images/<split>, <split>/images or <split>; none where no name is a split's."""
    visible = [p for p in sorted(base.iterdir()) if is_visible(p.name) and p.is_dir()]
    top = base / IMAGES
    inside = [p for p in sorted(top.iterdir()) if p.is_dir()] if top.is_dir() else []
    for folders in (inside, [p / IMAGES for p in visible if (p / IMAGES).is_dir()]):
        named = {(f.parent if f.name == IMAGES and f != top else f).name: f for f in folders}
        if found := _by_split(named):
            return {name: _of_folder(folder) for name, folder in found.items()}
    plain = {p.name: p for p in visible if p.name.lower() in SPLITS}
    return {name: _of_folder(folder) for name, folder in _by_split(plain).items()}


def _by_split(folders: Mapping[str, Path]) -> dict[str, Path]:
    """Folders by their split: train2017 is train; of other names by those, if one is a split's."""
    short = {name: name.lower() if name.lower() in SPLITS else split_of(name) for name in folders}
    if not any(short.values()):
        return {}
    once = {n for n in short.values() if n and list(short.values()).count(n) == 1}
    return {(short[n] if short[n] in once else n) or n: folder for n, folder in folders.items()}


def _lists(base: Path) -> dict[str, Path]:
    """Darknet's train.txt and others, whose rows are images below `base`."""
    found = {}
    for file in sorted(base.glob("*.txt")):
        name = split_of(file.stem)
        row = next(iter(list_rows(file)), (0, ""))[1] if name else ""
        if name and row and row.lower().endswith(IMAGE_SUFFIXES) and _image(file, base, row):
            found[name] = file
    return found if "train" in found else {}


def _image(file: Path, base: Path, row: str) -> Path | None:
    """The image that a row of a list means: by its path from the list or the set's folder on."""
    name = row.replace("\\", "/")
    for top in (file.parent, base):
        if not os.path.isabs(name) and ".." not in name and (top / name).is_file():
            return Path(os.path.normpath(top / name))
    return find_below(base, name)
