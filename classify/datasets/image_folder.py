"""One folder a class: <root>/<split>/<class>/**/picture.jpg."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.image import IMAGE_SUFFIXES, read_rgb
from engine.errors import UserError, did_you_mean
from engine.structures import Record


class ImageFolder:
    """Pictures of one split, the folder's name is the label.

    A picture's id is its name without suffix where that is unique in the split's folder, else the
    path below that folder. Hidden folders are passed over; files that are no pictures are reported.

    Args:
        root: holds a folder a split; those of root/train give the classes, sorted, to all splits.
        val_share: of each class of train, held out as "val" where there is no folder root/val.
        seed: of that choice.
        on_error: what an empty picture file or a dangling link does: "fail" or "skip".
    """

    stored = True

    def __init__(
        self,
        *,
        root: str,
        split: str,
        val_share: float = 0.1,
        seed: int = 0,
        on_error: str = "fail",
    ) -> None:
        if on_error not in ("fail", "skip"):
            raise UserError(f"dataset.on_error is '{on_error}', expected 'fail' or 'skip'")
        if not 0 <= val_share < 1:
            raise UserError(f"dataset.val_share is {val_share}, expected 0 <= val_share < 1")
        self.report: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.on_error = on_error
        base = Path(root).expanduser()
        self.classes = _class_names(base)
        carved = split in ("train", "val") and val_share > 0 and not (base / "val").is_dir()
        self._folder = base / "train" if carved else _split_folder(base, split)
        files, labels = self._find()
        stems = {os.path.splitext(os.path.basename(file))[0] for file in files}
        self._short_ids = len(stems) == len(files)
        rows = np.arange(len(files))
        if carved:
            held = _held_out(labels, val_share, seed)
            self.notes.append(
                f"no val folder: {held.sum()} of the {len(held)} training pictures are held out "
                f"for validation (dataset.val_share={val_share:g})"
            )
            rows = np.flatnonzero(held == (split == "val"))
        if not len(rows):
            raise UserError(f"{self._folder}: no picture left for '{split}'; raise val_share")
        self._files = np.array([os.fsencode(file) for file in files])[rows]  # [N] a path in bytes
        self._labels = labels[rows]  # [N]

    def __len__(self) -> int:
        return len(self._files)

    def record(self, index: int) -> Record:
        """The one label; the object is the whole picture."""
        file = os.fsdecode(self._files[index])
        short = os.path.splitext(os.path.basename(file))[0]
        path = os.path.join(self._folder, file)
        return Record(short if self._short_ids else file, path, self._labels[index : index + 1])

    def image(self, index: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB, upright."""
        return read_rgb(self.record(index).path)

    def _find(self) -> tuple[list[str], np.ndarray]:
        """Every picture's path below the split's folder, sorted within its class, and its label."""
        for entry in sorted(self._folder.iterdir()):
            if not entry.is_dir():
                self._tell(entry, "lies beside the class folders")
        files, labels = [], []
        for name in _folder_names(self._folder):
            label = self._label(name)
            mine = sorted(self._pictures(self._folder / name))
            if not mine:
                raise UserError(f"{self._folder / name}: no picture in it; fill or remove it")
            files += mine
            labels += [label] * len(mine)
        missing = set(range(len(self.classes))) - set(labels)
        if missing:
            names = ", ".join(self.classes[i] for i in sorted(missing))
            self.notes.append(f"{self._folder}: no picture of {names}")
        return files, np.array(labels, np.int64)

    def _label(self, name: str) -> int:
        if name not in self.classes:
            raise UserError(
                f"{self._folder / name}: the class '{name}' is unknown, the folders of train are "
                f"{', '.join(self.classes)}{did_you_mean(name, self.classes)}; rename or remove it"
            )
        return self.classes.index(name)

    def _pictures(self, folder: Path) -> Iterator[str]:
        """Paths of the pictures in `folder` and below, from the split's folder on, posix."""
        for here, below, names in os.walk(folder, followlinks=True):
            below[:] = [name for name in below if not name.startswith(".")]
            for name in names:
                file = Path(here, name)
                if not name.lower().endswith(IMAGE_SUFFIXES):
                    self._tell(file, f"no picture: expected {', '.join(IMAGE_SUFFIXES)}")
                elif self._is_whole(file):
                    yield file.relative_to(self._folder).as_posix()

    def _is_whole(self, file: Path) -> bool:
        """What can be told without reading; the rest is told by `image`."""
        reason = None
        try:
            if file.stat().st_size == 0:
                reason = "the file is empty (0 bytes)"
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
        if reason and self.on_error == "fail":
            raise UserError(f"{file}: {reason}; mend it, or leave it out: dataset.on_error=skip")
        if reason:
            self._tell(file, reason)
        return not reason

    def _tell(self, file: Path, reason: str) -> None:
        self.report.append({"file": str(file), "row": None, "reason": reason, "action": "left out"})


def _folder_names(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted, without the hidden ones."""
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _class_names(root: Path) -> list[str]:
    names = _folder_names(root / "train")
    if not names:
        found = ", ".join(_folder_names(root)[:10]) or "no folder in it"
        raise UserError(
            f"dataset.root={root}: {f'found {found}' if root.is_dir() else 'no such folder'}; "
            f"expected pictures in {root}/train/<class>/"
        )
    return names


def _split_folder(root: Path, split: str) -> Path:
    if split not in _folder_names(root):
        known = _folder_names(root)
        raise UserError(
            f"no split '{split}': {root / split} does not exist; there are "
            f"{', '.join(known)}{did_you_mean(split, known)}"
        )
    return root / split


def _held_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """[N] bool: a seeded share of each class, at least one picture, never all."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        held[mine[: min(max(1, round(share * len(mine))), len(mine) - 1)]] = True
    return held
