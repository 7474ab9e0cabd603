"""Images and the annotation file that each has of its own, wherever the two lie in a folder."""

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from engine.data.image import IMAGE_SUFFIXES
from engine.data.image_dataset import ImageDataset
from engine.data.splits import SplitSource, find_split
from engine.data.tree import SPLITS, files_below

# Folders of these names say what is in them, not which: images/train/a.jpg belongs to
# annotations/train/a.xml and to train/labels/a.xml.
KINDS = {
    "annotation", "annotations", "annots", "annot", "ann", "anns", "bbox", "bboxes", "boxes",
    "data", "image", "images", "imgs", "img", "jpegimages", "json", "jsons", "label", "labels",
    "photos", "pics", "pictures", "voc", "xml", "xmls",
}  # fmt: skip


class Pair(NamedTuple):
    """An annotation file and its image, paths from the folder on."""

    annotation: str
    image: str | None
    reason: str = ""  # why there is no image


class Pairs(NamedTuple):
    """What a folder holds."""

    splits: dict[str, list[Pair]]  # by the folder that has the split's name; "" where none has
    bare: int  # images without an annotation


def find_pairs(root: Path, suffix: str) -> Pairs:
    """Every annotation file below `root` with its image, by split.

    An image belongs to the annotation of the same path but for folders that say what is in them;
    else to the only one of the same name.
    """
    annotations = files_below(root, [suffix])
    by_path, by_stem = defaultdict(list), defaultdict(list)
    images = files_below(root, IMAGE_SUFFIXES)
    for image in images:
        by_path[_key(image)].append(image)
        by_stem[PurePosixPath(image).stem].append(image)
    taken: dict[str, str] = {}
    splits: dict[str, list[Pair]] = defaultdict(list)
    for file in annotations:
        pair = _pair(file, by_path, by_stem, taken)
        splits[_split(pair.image or file)].append(pair)
    order = {name: splits[name] for name in sorted(splits)}
    return Pairs(order, len(images) - len(taken))


def choose_pairs(
    data: ImageDataset, found: Pairs, root: Path, split: str, lists: str | None, val_share: float
) -> tuple[SplitSource, list[Pair]]:
    """Where a split comes from, and its pairs; annotations without an image are left out.

    A set with folders of splits has those; what lies beside them is noted.
    """
    named = {name: pairs for name, pairs in found.splits.items() if name}
    own = named if "train" in named or not found.splits.get("") else {}
    how = find_split(split, root=root, own=own, lists=lists, val_share=val_share)
    chosen = own[how.source] if own else [p for ps in found.splits.values() for p in ps]
    beside = len(found.splits.get("", ())) if own else 0
    if beside:
        data.notes.append(f"{beside} annotations lie in no folder of a split: left out")
    if found.bare:
        data.notes.append(f"{found.bare} images in {root} have no annotation: left out")
    for pair in chosen:
        if pair.image is None:
            data.leave_out(root / pair.annotation, None, pair.reason)
    return how, chosen


def _pair(
    file: str,
    by_path: dict[tuple[str, ...], list[str]],
    by_stem: dict[str, list[str]],
    taken: dict[str, str],
) -> Pair:
    found = by_path.get(_key(file)) or by_stem.get(PurePosixPath(file).stem, [])
    beside = [image for image in found if os.path.dirname(image) == os.path.dirname(file)]
    found = beside or found
    if len(found) > 1:
        return Pair(file, None, f"its image may be {' or '.join(found[:3])}: leave one")
    if not found:
        return Pair(file, None, f"no image {PurePosixPath(file).stem}.jpg (or .png)")
    if found[0] in taken:
        return Pair(file, None, f"{found[0]} has an annotation already, {taken[found[0]]}")
    taken[found[0]] = file
    return Pair(file, found[0])


def _key(path: str) -> tuple[str, ...]:
    *folders, name = path.split("/")
    kept = [folder for folder in folders if folder.lower() not in KINDS]
    return (*kept, os.path.splitext(name)[0])


def _split(path: str) -> str:
    """The first folder of a split's name; "" for none."""
    return next((f.lower() for f in path.split("/")[:-1] if f.lower() in SPLITS), "")
