"""One folder a class: <root>/<split>/<class>/**/image.jpg, or without the splits."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from engine.config.ranges import PartialShare, Seed
from engine.data.image import IMAGE_SUFFIXES
from engine.data.image_dataset import ImageDataset
from engine.data.index import Index, file_names, unique_stems
from engine.data.splits import find_split
from engine.data.tree import SPLITS, is_visible, walk
from engine.errors import UserError, did_you_mean
from engine.regular_file import check_regular


class ImageFolder(ImageDataset):
    """Images of one split, the folder's name is the label.

    An image's id is its name without suffix where that is unique in the split's folder, else the
    path below that folder. Hidden folders are passed over; files that are no images are reported.

    Args:
        root: holds a folder a split (train; val, valid or validation; test); those of root/train
            give the classes, sorted, to all splits. Without a folder of a split's name its folders
            are the classes, all of train.
        val_share: of each class of train, held out as "val" where there is no folder root/val.
        seed: of that choice.
        on_error: what an empty image file or a dangling link does: "fail" or "skip".
    """

    def __init__(
        self,
        *,
        root: str,
        split: str,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        on_error: str = "fail",
    ) -> None:
        super().__init__(on_error=on_error)
        base = Path(root).expanduser()
        own = _splits(base)
        self.classes = _class_names(base, own)
        how = find_split(split, root=base, own=own, lists=None, val_share=val_share)
        self.folder = str(own.get(how.source, base))
        files, labels = self._find(Path(self.folder))
        first = np.arange(len(files) + 1)
        self.index = Index(file_names(files), first, labels, short=unique_stems(files))
        self.select_split(how, split, val_share, seed)

    def _find(self, folder: Path) -> tuple[list[str], np.ndarray]:
        """Every image's path below the split's folder, sorted within its class, and its label."""
        for entry in sorted(folder.iterdir()):
            if not entry.is_dir() and is_visible(entry.name):
                self.note_defect(entry, None, "lies beside the class folders", "left out")
        files, labels = [], []
        for name in _folder_names(folder):
            label = self._label(folder / name)
            names = sorted(self._images(folder / name, folder))
            if not names:
                raise UserError(f"{folder / name}: no image in it; fill or remove it")
            files += names
            labels += [label] * len(names)
        missing = set(range(len(self.classes))) - set(labels)
        if missing:
            names = ", ".join(self.classes[i] for i in sorted(missing))
            self.notes.append(f"{folder}: no image of {names}")
        return files, np.array(labels, np.int64)

    def _label(self, folder: Path) -> int:
        name = folder.name
        if name not in self.classes:
            raise UserError(
                f"{folder}: the class '{name}' is unknown, the folders of train are "
                f"{', '.join(self.classes)}{did_you_mean(name, self.classes)}; rename or remove it"
            )
        return self.classes.index(name)

    def _images(self, folder: Path, above: Path) -> Iterator[str]:
        """Paths of the images in `folder` and below, from the folder `above` on, posix."""
        for here, _, names in walk(folder):
            for name in names:
                file = here / name
                if not name.lower().endswith(IMAGE_SUFFIXES):
                    reason = f"no image: expected {', '.join(IMAGE_SUFFIXES)}"
                    self.note_defect(file, None, reason, "left out")
                elif reason := _defect(file):
                    self.leave_out(file, None, reason)
                else:
                    yield file.relative_to(above).as_posix()


def _defect(file: Path) -> str | None:
    """Check what can be checked without decoding; `image` checks the rest."""
    try:
        check_regular(file)
        return None if file.stat().st_size else "the file is empty (0 bytes)"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _folder_names(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted, without the hidden ones."""
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and is_visible(p.name))


def _splits(root: Path) -> dict[str, Path]:
    """The folders by split; those of train, val and test by these names in any case."""
    names = {name: name.lower() for name in _folder_names(root)}
    if not any(name in SPLITS for name in names.values()):
        return {}
    short = {n: SPLITS[low] if low in ("training", "testing") else low for n, low in names.items()}
    return {short[name] if names[name] in SPLITS else name: root / name for name in names}


def _class_names(root: Path, splits: Mapping[str, Path]) -> list[str]:
    names = _folder_names(splits.get("train", root / "train") if splits else root)
    if len(names) < (1 if splits else 2):  # one folder is rather one of images without classes
        found = ", ".join(_folder_names(root)[:10]) or "no folder in it"
        raise UserError(
            f"dataset.root={root}: {f'found {found}' if root.is_dir() else 'no such folder'}; "
            f"expected images in {root}/train/<class>/ or {root}/<class>/"
        )
    return names
